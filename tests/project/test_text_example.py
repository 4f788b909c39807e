"""examples/text: characters and models that read them, from outside, through everything that a run does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from torch import nn

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import SequentialTrainer, StackedTrainer

FOLDER = Path(__file__).parents[2] / "examples" / "text"
BAG = {"kind": "characters:CharacterBag"}


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def blocks(**changes: Any) -> Any:
    scenario = yaml.safe_load((FOLDER / "scenario.yaml").read_text(encoding="utf-8"))
    changes = {"seeds": [10], "rounds": 2, "sweep": {"product": {"algorithm": ["fedavg"]}}, **changes}
    text = yaml.safe_dump({**scenario, **changes})
    return plan(resolve(Document.parse(text, "scenario.yaml"))).blocks


def cell_of(**changes: Any) -> Cell:
    (block,) = blocks(**changes)
    check((block,))
    return CellBuilder().cell(block.cells[0], block.cells[0], torch.device("cpu"))


def run(**changes: Any) -> RunRecord:
    (block,) = blocks(**changes)
    (record,) = run_block(block)
    return record


def test_models_get_characters_as_whole_numbers_and_clients_are_speakers() -> None:
    problem = cell_of().problem
    assert problem.x_train.dtype == problem.x_test.dtype == torch.int64
    assert problem.x_train.shape == (20 * 60, 12)
    assert [len(rows) for rows in problem.clients] == [60] * 20
    for rows in problem.clients:  # one speaker's windows follow each other
        ordered = problem.x_train[rows.sort().values]
        assert torch.equal(ordered[1:, :-1], ordered[:-1, 1:])
    record = run(model=BAG, rounds=1)
    assert record.data is not None
    assert record.data.features is None
    assert record.data.classes == 12


@pytest.mark.parametrize("model", [BAG, {"kind": "characters:CharacterLstm"}], ids=["bag", "lstm"])
def test_a_round_is_federated_averaging_over_embeddings_too(model: dict[str, Any]) -> None:
    class Models(Watcher):
        weights: list[torch.Tensor]

        def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
            self.weights.append(state.weights)

    one, watch = cell_of(model=model, rounds=1), Models()
    problem, schedule, ends = one.problem, one.protocol.training, []
    watch.weights = []
    trainers = [SequentialTrainer()] if "Lstm" in model["kind"] else [SequentialTrainer(), StackedTrainer()]
    for trainer in trainers:
        run_cells([one], trainer, watch=watch)
    for k in one.cohort(1).tolist():
        net: nn.Module = copy.deepcopy(problem.module)
        problem.layout.load(net, problem.initial)
        draws = generator(one.seed, Purpose.BATCHES, 1, k)
        for order in [torch.randperm(60, generator=draws) for _ in range(schedule.epochs)]:
            for batch in order.split(schedule.batch_size):
                rows = problem.clients[k][batch]
                net.zero_grad()
                F.cross_entropy(net(problem.x_train[rows]), problem.y_train[rows]).backward()  # type: ignore[no-untyped-call]
                with torch.no_grad():
                    for parameter in net.parameters():
                        parameter.sub_(schedule.lr * parameter.grad)  # type: ignore[operator]
        ends.append(problem.layout.vector(net))
    for weights in watch.weights[1::2]:
        torch.testing.assert_close(weights, torch.stack(ends).mean(0), atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_what_cannot_be_pruned_by_unit_is_said_and_weights_are_pruned() -> None:
    with pytest.raises(InputError, match=r"removes whole units.*LSTM is neither.*threshold"):
        check(blocks(sweep={"product": {"algorithm": ["taylor"]}}))
    record = run(sweep={"product": {"algorithm": ["autoflip"]}}, exploration={"epochs": 1}, clients=4, cohort=2,
                 partition="iid")  # fmt: skip
    assert record.trainer.kind == "sequential"
    assert "vmap" in record.trainer.reason
    live = {layer.name: layer.live_weights / layer.weights for layer in record.layers}
    assert live["head.weight"] == 1
    assert all(live[name] < 0.6 for name in ("embedding.weight", "lstm.weight_hh_l0"))
    bag = run(model=BAG, sweep={"product": {"algorithm": ["taylor"]}})
    assert {layer.name: layer.units for layer in bag.layers} == {
        "embedding.weight": None, "body.0.weight": 32, "body.2.weight": 12,
    }  # fmt: skip


@pytest.mark.slow
def test_dp_sgd_of_an_embedding_is_proven_and_an_lstm_is_to_be_replaced() -> None:
    privacy = {"kind": "sample_level", "noise_multiplier": 1.0}
    found = ledger(cell_of(model=BAG, privacy=privacy))
    assert found is not None
    assert all(guarantee.proven for guarantee in found.guarantees)
    with pytest.raises(InputError, match=r"'lstm' \(LSTM\), which gives no per-sample gradients.*replace_unsupported"):
        check(blocks(privacy=privacy))
    fixed = cell_of(privacy={**privacy, "replace_unsupported_layers": True})
    assert "LSTM" in str(fixed.problem.module)


@pytest.mark.slow
def test_the_scenario_learns_and_order_helps() -> None:
    lstm, bag = (run(model=model, rounds=30) for model in ({"kind": "characters:CharacterLstm"}, BAG))
    assert lstm.data is not None
    assert lstm.final_accuracy > 1.5 * lstm.data.largest_class
    assert lstm.final_accuracy > bag.final_accuracy + 0.1
