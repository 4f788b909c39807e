"""Over Flower a run is what the engine's is: weights, masks, the record of every round, and bytes as they travel."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

WHY = "Flower is not among the test tools, for it keeps typer, rich and protobuf back: pip install '.[flower]'"
pytest.importorskip("flwr", reason=WHY)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

from both_ways import by_engine, bytes_of, over_flower  # noqa: E402
from in_process import through_bytes  # noqa: E402
from small import SCENARIO, agreed  # noqa: E402

from autoflip_secure.errors import InputError  # noqa: E402
from autoflip_secure.flower import Federation, client_app, models  # noqa: E402

CLOSE = {"rtol": 0.0, "atol": 1e-6}  # on one processor they are equal to the bit
NOT_THE_SERVERS = {"timing", "trainer", "malicious_clients", "threats", "detection", "data", "events", "privacy"}


def same(federation: Federation) -> None:
    record, kept = by_engine(federation)
    strategy, grid = over_flower(federation)
    torch.testing.assert_close(strategy.weights, kept.weights[-1], **CLOSE)
    assert torch.equal(strategy.mask, kept.masks[-1])
    found = strategy.record
    assert found is not None
    ours, theirs = (one.model_dump(mode="json", exclude=NOT_THE_SERVERS) for one in (record, found))
    for one in (ours, theirs):  # what the server of a real federation does not know
        for part in [*one["rounds"], *(one[name] for name in ("exploration", "preparation") if one.get(name))]:
            part.pop("malicious")
    assert _close(theirs, ours)
    up, down = bytes_of(grid)
    assert up == record.costs.bytes.uplink_values
    assert down in (record.costs.bytes.downlink_values, record.costs.bytes.downlink_bitmask) or _mixed(record, down)


def _mixed(record: Any, down: int) -> bool:
    """The mask travels in rounds in which something is pruned, and in no other."""
    known = record.costs.bytes.downlink_values
    return bool(known < down < record.costs.bytes.downlink_bitmask)


def _close(one: Any, other: Any) -> bool:
    """Equal, numbers within float tolerance, wherever they stand."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_close, one, other))
    return bool(one == pytest.approx(other, rel=1e-5, abs=1e-6)) if isinstance(one, float) else bool(one == other)


RULES = ("fedavg", "median", "trimmed_mean", "geometric_median", "krum", "centered_clipping", "norm_clip", "fedprox")
MASKS = ("autoflip", "autoflip_plus", "random_weights", "magnitude", "fedsparsify", "eflprune")
MORE = ("fedlex", "snip", "taylor", "rigl", "fedrts", "autoflip_held", "flame", "foolsgold")


@pytest.mark.parametrize("algorithm", [*RULES, *MASKS, *MORE])
def test_an_algorithm_gives_the_same_run(algorithm: str) -> None:
    same(agreed(algorithm=algorithm))


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": [{"kind": "label_flip", "scope": 0.3}, {"kind": "anchor_inflation"}]},
        {"attack": {"kind": "gaussian_noise", "sigma": 0.3}},
        {"attack": {"kind": "sign_flip", "scope": 0.3}, "algorithm": "median"},
        {"exploration": {"epochs": 3, "every": 1, "explorers": 5, "patience": 1}},
        {"guidance": {"matrix": "per_round"}},
        {"exploration": {"epochs": 2, "method": "linear"}, "sampling": "poisson"},
        {"algorithm": "fedavg", "server_lr": 0.7, "server_momentum": 0.5,
         "training": {"optimizer": "adam", "lr": 0.01}},
        {"algorithm": "fedavg", "training": {"weight_decay": 0.01, "momentum": 0.5, "lr_decay": 0.9}},
        {"cohort": 7, "algorithm": {"name": "b", "pruner": "none",
                       "aggregator": {"kind": "krum", "before": [{"kind": "bucketing"}, {"kind": "nnm"}]}}},
        {"algorithm": {"name": "fedlex", "local_rule": {"matrix": "per_round"}}},
        {"model": "batchnorm_nets:small"},
        {"partition": {"kind": "dirichlet", "alpha": 0.3}, "trainer": "sequential"},
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_gives_the_same_run(changes: dict[str, Any]) -> None:
    same(agreed(**changes))


def test_a_lie_about_samples_weighs_as_much_and_the_servers_record_has_what_it_was_told() -> None:
    federation = agreed(algorithm="fedavg", cohort=7, attack={"kind": "lie_samples", "factor": 3, "clients": [1]})
    record, kept = by_engine(federation)
    strategy, _ = over_flower(federation)
    torch.testing.assert_close(strategy.weights, kept.weights[-1], **CLOSE)
    honest, found = record.client_samples, strategy.record
    assert found is not None
    assert found.client_samples == [3 * n if k == 1 else n for k, n in enumerate(honest)]


def test_clients_bring_their_own_data_and_the_server_has_none() -> None:
    """Nobody reads the scenario's data: they name a file that does not exist."""
    whole = agreed()
    changes = {"data": {"kind": "npz", "path": "nowhere.npz"}}
    federation = Federation.of({**SCENARIO, **changes}, sample=whole.kit.sample, classes=10)
    assert federation.digest == whole.digest

    def load(context: Any) -> Any:
        x, y = whole.rows_of(context.node_config["partition-id"])
        return x.numpy(), y.numpy()

    strategy, _ = over_flower(federation, [client_app(federation, load)] * 7)
    torch.testing.assert_close(strategy.weights, by_engine(whole)[1].weights[-1], **CLOSE)
    assert strategy.record is None, "nothing was tested"
    assert [found.test_accuracy for found in strategy.rounds] == [None] * 3
    tested, _ = over_flower(federation, [client_app(federation, load)] * 7, test=(whole.kit.split.x, whole.kit.split.y))
    assert tested.record is not None
    assert tested.record.config["data"] == {"kind": "brought by the clients"}
    assert tested.record.final_accuracy > 0.5
    with pytest.raises(InputError, match="give client_app a function that loads them"):
        federation.rows_of(0)


def test_models_go_to_flower_and_back_and_plain_pytorch_reads_them() -> None:
    federation = agreed(algorithm="fedavg", rounds=1)
    strategy, _ = over_flower(federation)
    arrays = models.arrays(federation.kit, strategy.weights)
    module = copy.deepcopy(federation.kit.module)
    module.load_state_dict(arrays.to_torch_state_dict())
    assert torch.equal(federation.kit.layout.vector(module), strategy.weights)
    assert torch.equal(models.vector(federation.kit, arrays), strategy.weights)
    with pytest.raises(InputError, match="initial_arrays are not of the model"):
        models.vector(agreed(model={"kind": "mlp", "hidden": [5]}).kit, arrays)


def test_it_goes_on_from_another_model() -> None:
    """FedAvg from a trained model, against the mean by hand of what its clients send from it."""
    federation = agreed(algorithm="fedavg", rounds=1)
    first, _ = over_flower(federation)
    from autoflip_secure.flower import AutoflipStrategy

    second, (_, grid) = AutoflipStrategy(federation), over_flower(federation)
    second.start(grid, models.arrays(federation.kit, first.weights), num_rounds=1)
    rows, samples = list[Tensor](), list[float]()
    for _, answer in grid.seen[-4:]:
        payload = answer.content["arrays"]["update"].data
        rows.append(torch.frombuffer(bytearray(payload[14:]), dtype=torch.float32))
        samples.append(answer.content["metrics"]["num-examples"])
    weights = torch.tensor(samples, dtype=torch.float64) / sum(samples)
    by_hand = first.weights.double() + weights @ torch.stack(rows).double()
    torch.testing.assert_close(second.weights.double(), by_hand, **CLOSE)
    assert through_bytes(grid.seen[-1][1])[1] > len(payload)
