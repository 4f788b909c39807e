"""Flower strategies as aggregators: equal to ours where the rule is the same; memory, draws, waiting, what fails."""

import pickle
import random
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoflip_secure.defenses.aggregators.flower import adapted
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config import plugin_families
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.seeds import Purpose, generator

WHY = "Flower is not among the test tools, for it keeps typer, rich and protobuf back: pip install '.[flower]'"
pytest.importorskip("flwr", reason=WHY)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NET = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
LAYOUT = Layout.of(NET)
NEW, OLD = "flwr.serverapp.strategy", "flwr.server.strategy"


def view(clients: int, round_: int = 1) -> RoundView:
    source = torch.Generator().manual_seed(round_)
    return RoundView(
        round=round_,
        clients=torch.arange(clients),
        samples=torch.arange(1.0, clients + 1),
        weights=torch.randn(LAYOUT.size, generator=source),
        mask=torch.ones(LAYOUT.size, dtype=torch.bool),
        guidance=None,
        layout=LAYOUT,
        shrinkage=torch.zeros(clients),
        generator=partial(generator, 0, Purpose.AGGREGATION, round_),
        updates=torch.randn(clients, LAYOUT.size, generator=source),
    )


def made(kind: str, **arguments: Any) -> Aggregator:
    cls: Any = plugin_families.outside("aggregator", kind, "aggregator.kind")
    found: Aggregator = cls(kind=kind, arguments=arguments)
    return found


def asked(aggregator: Aggregator, *rounds: RoundView) -> list[Aggregate]:
    state, found = aggregator.start(LAYOUT, rounds[0].weights, 9, None), []
    for one in rounds:
        found.append(aggregator.aggregate(state, one))
        state = found[-1].state
    return found


@pytest.mark.parametrize("place", [NEW, OLD])
@pytest.mark.parametrize(("strategy", "ours"), [("FedAvg", Mean()), ("FedMedian", Median())])
@pytest.mark.parametrize("clients", [1, 2, 5])
def test_the_same_rule_gives_the_same_step(place: str, strategy: str, ours: Aggregator, clients: int) -> None:
    [theirs] = asked(made(f"{place}:{strategy}"), view(clients))
    [own] = asked(ours, view(clients))
    torch.testing.assert_close(theirs.delta, own.delta, rtol=0, atol=1e-6)
    assert float(theirs.trust.sum()) == pytest.approx(1)


@pytest.mark.parametrize("place", [NEW, OLD])
def test_memory_goes_from_round_to_round_and_is_never_changed_in_place(place: str) -> None:
    """FedAdam by hand: m <- .9 m + .1 d, v <- .99 v + .01 d^2, w <- w + eta_t m / (sqrt v + tau), t + 1 in eta_t."""
    adam = made(f"{place}:FedAdam", eta=0.05, tau=1e-3)
    first, second = view(4, 1), view(4, 2)
    found = asked(adam, first)[0]
    again = [adam.aggregate(found.state, second) for _ in range(2)]
    assert torch.equal(again[0].delta, again[1].delta)
    m = v = np.zeros(LAYOUT.size)
    for round_, (one, step) in enumerate(((first, found), (second, again[0])), start=1):
        share = (one.samples / one.samples.sum()).double().numpy()
        d = share @ one.updates.double().numpy()
        m, v = 0.9 * m + 0.1 * d, 0.99 * v + 0.01 * d**2
        rate = 0.05 * np.sqrt(1 - 0.99 ** (round_ + 1)) / (1 - 0.9 ** (round_ + 1))
        if place == NEW or round_ == 1:  # the older one keeps the model by itself
            np.testing.assert_allclose(step.delta.numpy(), rate * m / (np.sqrt(v) + 1e-3), atol=2e-5)


def test_who_samples_draws_from_the_seed_and_leaves_global_generators_alone() -> None:
    half = made(f"{NEW}:FedAvg", fraction_train=0.5)
    random.seed(5)
    state = random.getstate()
    found = {tuple(asked(half, view(8, number))[0].trust.tolist()) for number in (1, 2, 1)}
    assert len(found) == 2, "a round draws the same each time; another round others"
    assert all(sorted(trust) == [0] * 4 + [0.25] * 4 for trust in found)
    assert random.getstate() == state


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of somebody's own."""
    from flwr.serverapp.strategy import FedAvg

    class Patient(FedAvg):
        def configure_train(self, server_round: Any, arrays: Any, config: Any, grid: Any) -> Any:
            self.min_available_nodes = 50
            return super().configure_train(server_round, arrays, config, grid)

    class Broken(FedAvg):
        def aggregate_train(self, server_round: Any, replies: Any) -> Any:
            raise ZeroDivisionError("no weight")

    class Short(FedAvg):
        def aggregate_train(self, server_round: Any, replies: Any) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            del arrays["0.bias"]
            return arrays, metrics

    class Nothing(FedAvg):
        def aggregate_train(self, server_round: Any, replies: Any) -> Any:
            return None, None

    class Asking(FedAvg):
        def configure_train(self, server_round: Any, arrays: Any, config: Any, grid: Any) -> Any:
            grid.push_messages([])
            return []

    module = types.ModuleType("their_strategies")
    for cls in (Patient, Broken, Short, Nothing, Asking):
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("their_strategies:Patient", {}, "waits for more nodes than the 3 of the round"),
        ("their_strategies:Broken", {}, "failed in round 1 with ZeroDivisionError: no weight; mend it"),
        ("their_strategies:Short", {}, "0.bias is missing in what it gives, expected (4,)"),
        ("their_strategies:Asking", {}, "calls push_messages, which reaches for clients"),
        (f"{NEW}:FedAvg", {"fraction": 1}, "cannot be made with fraction (TypeError"),
    ],
)
def test_what_fails_is_said_in_a_sentence(theirs: Any, kind: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        asked(made(kind, **arguments), view(3))
    assert f"aggregator = '{kind}'" in str(error.value)
    assert said in str(error.value)


def test_who_gives_no_model_makes_no_step(theirs: Any) -> None:
    [found] = asked(made("their_strategies:Nothing"), view(3))
    assert not found.delta.any()
    assert not found.trust.any()


def test_it_goes_to_workers_and_back() -> None:
    one = made(f"{NEW}:FedTrimmedAvg", beta=0.25)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.model_dump() == {"before": (), "arguments": {"beta": 0.25}, "kind": f"{NEW}:FedTrimmedAvg"}
    assert adapted(Median) is Median


SWEEP = """
data: digits
clients: 10
cohort: 6
rounds: 2
training: {lr: 0.2, batch_size: 16, epochs: 1}
seeds: [3]
sweep:
  product:
    attack: [none, {kind: gaussian_noise, sigma: 0.5, scope: 0.2}]
    algorithm:
      - median
      - {name: theirs, pruner: none, aggregator: {kind: "flwr.serverapp.strategy:FedMedian"}}
      - {name: pruned, pruner: random_weights, aggregator: {kind: "flwr.serverapp.strategy:FedMedian"}}
"""


def test_a_sweep_meets_attacks_with_a_strategy(tmp_path: Path) -> None:
    swept = run_sweep(plan(resolve(Document.parse(SWEEP, "here"))), tmp_path, 1, Listener(lambda *_: None, str))
    curves = {(r.algorithm, str(r.axes["attack"])): [one.test_accuracy for one in r.rounds] for r in swept.records}
    for attack in {attack for _, attack in curves}:
        assert curves["theirs", attack] == pytest.approx(curves["median", attack], abs=0.02)
    densities = {r.algorithm: r.rounds[-1].density for r in swept.records}
    assert densities["theirs"] == 1 > densities["pruned"]
