"""Frozen parameters: a model with them is, number by number, the model whose coordinates are the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from frozen_networks import CLIENTS, NAMES, Memory, X, Y, cells, network, numbers, problem, trainer_for
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from torch import Tensor, nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.algorithm.radial_layers import Layers, radial_cosine
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.federation.cell import Problem
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.interfaces import ClientJob, OpenRows, Trained, TrainingSchedule
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.budget import BudgetMask, kept_counts
from autoflip_secure.pruning.random import RandomUnits, RandomWeights
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.training import SequentialTrainer, Trainer, choose_trainer


def narrowed(layout: Layout) -> Layout:
    """The same meanings, with frozen tensors no coordinates at all."""
    left = [segment for segment in layout if not segment.frozen]
    stops = list(accumulate(segment.stop - segment.start for segment in left))
    return Layout(
        tuple(replace(s, start=start, stop=stop) for s, start, stop in zip(left, [0, *stops], stops, strict=False))
    )


class Narrow(Trainer):
    """Trains the whole model where nobody else knows of frozen weights."""

    kind = "stacked"

    def __init__(self, trainer: Trainer, whole: Problem) -> None:
        super().__init__()
        self.trainer, self.whole, self.sent = trainer, whole, whole.layout.sent

    def train(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: TrainingSchedule
    ) -> Trained:
        wide = [replace(j, start=self.put(j.start), mask=None if j.mask is None else self.all(j.mask)) for j in jobs]
        trained = self.trainer.train(module, self.whole.layout, x, wide, schedule)
        return replace(trained, updates=trained.updates[:, self.sent])

    def put(self, vector: Tensor) -> Tensor:
        return self.whole.initial.masked_scatter(self.sent, vector)

    def all(self, mask: Tensor) -> Tensor:
        return torch.ones_like(self.sent).masked_scatter(self.sent, mask)


def alike(one: Any, other: Any, path: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            alike(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        if path.endswith("_counts"):  # of a histogram: who lies at an edge may be on either side of it
            apart = [a - b for a, b in zip(accumulate(one), accumulate(other), strict=True)]
            assert apart[-1] == 0, path
            assert max(map(abs, apart)) <= 2, path
            return
        for number, pair in enumerate(zip(one, other, strict=True)):
            alike(*pair, f"{path}[{number}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5), path
    else:
        assert one == other, path


some_frozen = st.sets(st.sampled_from(NAMES), min_size=1, max_size=len(NAMES) - 1)

ALGORITHMS: list[dict[str, Any]] = [
    {"attack": LabelFlip(scope=0.3)},
    {"pruner": ThresholdMask(refine_every=1), "aggregator": AgreementWeighted(), "attack": LabelFlip(scope=0.3)},
    {"pruner": ThresholdMask(refine_every=2), "aggregator": AgreementWeighted(statistics=("profile", "sign", "size"))},
    {"pruner": ThresholdMask(growth=0.3, threshold=0.5), "aggregator": RadialAgreement()},
    {"aggregator": RadialAgreement(noise="norm"), "exploration": ExplorationConfig(epochs=1, method="linear")},
    {"aggregator": AgreementWeighted(), "exploration": ExplorationConfig(epochs=1, method="plain")},
    {"aggregator": CenteredClipping(steps=2)},
]


@settings(max_examples=sized(1, 40))
@given(frozen=some_frozen, norm=st.booleans())
def test_a_run_equals_the_run_of_a_model_without_the_frozen_coordinates(frozen: set[str], norm: bool) -> None:
    names = sorted(frozen) if not norm else sorted({f"{int(n[0]) + (n[0] > '1')}{n[1:]}" for n in frozen})
    whole = problem(network(names, norm=norm))
    sent, trainer = whole.layout.sent, SequentialTrainer()
    assert int(sent.sum()) == sum(t.numel() for n, t in whole.module.named_parameters() if n not in names) + 24 * norm
    alone = replace(whole, layout=narrowed(whole.layout), initial=whole.initial[sent])
    seen, apart = Memory(), Memory()
    records = run_cells(cells(whole, *ALGORITHMS), trainer, watch=seen)
    oracle = run_cells(cells(alone, *ALGORITHMS), Narrow(trainer, whole), watch=apart)
    for ours, theirs in zip(records, oracle, strict=True):
        alike(numbers(ours), numbers(theirs))
        mine, other = seen.states[ours.cell], apart.states[theirs.cell]
        torch.testing.assert_close(mine.weights[sent], other.weights, rtol=1e-3, atol=1e-5)
        assert torch.equal(mine.weights[~sent], whole.initial[~sent])
        assert torch.equal(mine.mask[sent], other.mask)
        assert mine.mask[~sent].all()
        assert not torch.stack([rows[:, ~sent].any() for rows in seen.rows[ours.cell]]).any()
        if mine.guidance is not None and other.guidance is not None:
            torch.testing.assert_close(mine.guidance.energy[sent], other.guidance.energy, rtol=1e-3, atol=1e-7)
            assert not mine.guidance.energy[~sent].any()


def test_each_client_gets_frozen_parameters_once() -> None:
    """1.weight and 1.bias are frozen: 780 of 974 numbers; a header has 14 bytes."""
    whole = problem(network(["1.weight", "1.bias"]))
    protocols = {"rounds": 5}, {"rounds": 5, "aggregator": AgreementWeighted()}
    plain, guided = run_cells(cells(whole, *protocols), trainer_for(whole))
    message, frozen = 14 + 4 * 194, 4 * 780
    met: set[int] = set()
    for entry in plain.rounds:
        new = set(entry.participants) - met
        met |= new
        assert entry.bytes.uplink_values == 3 * message
        assert entry.bytes.downlink_values == 3 * message + len(new) * frozen
    assert guided.exploration is not None
    assert guided.exploration.bytes.uplink_values == CLIENTS * message
    assert guided.exploration.bytes.downlink_values == CLIENTS * (message + frozen)
    assert all(entry.bytes.downlink_values == 3 * message for entry in guided.rounds)
    assert plain.parameters == 194
    assert plain.events[0].startswith("frozen: 780 of 974 numbers")


def test_running_statistics_of_a_frozen_backbone_still_move_and_travel() -> None:
    names = ["1.weight", "1.bias", "2.weight", "2.bias"]
    whole = problem(network(names, norm=True))
    seen = Memory()
    (record,) = run_cells(cells(whole, {}), SequentialTrainer(), watch=seen)
    buffers = [s for s in whole.layout if s.kind == "buffer"]
    assert [s.name for s in buffers] == ["2.running_mean", "2.running_var"]
    for segment in buffers:
        assert not segment.trained
        assert not torch.equal(seen.states["0"].weights[segment.slice], whole.initial[segment.slice])
    assert record.parameters == 8 * 12 + 8 + 80 + 10 + 24


@pytest.mark.parametrize("kind", ["stacked", "sequential"])
def test_training_leaves_frozen_weights_bit_for_bit(kind: Any) -> None:
    whole = problem(network(["1.bias", "3.weight"]))
    trainer = choose_trainer(whole.module, whole.layout, X[:1], kind)
    jobs = [ClientJob(whole.initial, rows, Y[rows], 0, (1, k)) for k, rows in enumerate(whole.clients)]
    schedule = TrainingSchedule(optimizer="adam", weight_decay=0.1)
    updates = trainer.train(whole.module, whole.layout, X, jobs, schedule).updates
    assert not updates[:, whole.layout.frozen].any()
    assert updates[:, whole.layout.trained].any(0).float().mean() > 0.8


# ---------------------------------------------------------------------------------------------- units


@settings(max_examples=sized(6, 100))
@given(frozen=some_frozen, seed=st.integers(0, 10**6), density=st.floats(0.02, 0.6))
def test_closure_by_hand(frozen: set[str], seed: int, density: float) -> None:
    """Unit by unit until nothing changes; frozen weights live as long as their unit does, which they keep alive."""
    whole = problem(network(sorted(frozen)), chain=True)
    layout, chain = whole.layout, whole.units
    mask = (torch.rand(layout.size, generator=torch.Generator().manual_seed(seed)) < density) | layout.frozen
    living = {name: view.clone() for name, view in layout.tensors(mask).items()}
    for _ in range(20):
        for weight, following in (("1.weight", "3.weight"), ("3.weight", "5.weight")):
            for unit in range(len(living[weight])):
                fed = bool(living[weight][unit].any()) or following in frozen
                if not fed or not living[following][:, unit].any():
                    living[weight][unit] = living[following][:, unit] = False
                    living[weight.replace("weight", "bias")][unit] = False
    by_hand = layout.flatten(living).bool()
    closed = chain.close(mask, layout)
    assert torch.equal(closed, by_hand | layout.frozen)
    assert torch.equal(chain.used(mask, layout) | (mask & ~layout.frozen), by_hand | (mask & ~layout.frozen))
    units = [living["1.weight"].any(1) | living["3.weight"].any(0)]
    units += [living["3.weight"].any(1) | living["5.weight"].any(0), torch.ones(10, dtype=torch.bool)]
    assert all(map(torch.equal, chain.live_units(mask, layout), units))
    if all(bool(alive.any()) for alive in units):  # the smaller model gives the same
        vector = whole.initial * closed
        smaller = compact(whole.module, chain, layout, vector, mask).eval()
        layout.load(masked := network(sorted(frozen)).eval(), vector)
        torch.testing.assert_close(smaller(X[:5]), masked(X[:5]), rtol=1e-4, atol=1e-5)
        sizes = [len(tensor) for name, tensor in smaller.named_parameters() if name.endswith("bias")]
        assert sizes == [int(alive.sum()) for alive in units]


@settings(max_examples=sized(4, 60))
@given(
    frozen=some_frozen,
    kind=st.sampled_from([ThresholdMask, BudgetMask, RandomUnits, RandomWeights]),
    threshold=st.floats(0.1, 0.7),
)
def test_pruners_leave_what_is_frozen(frozen: set[str], kind: Any, threshold: float) -> None:
    whole, seen = problem(network(sorted(frozen)), chain=True), Memory()
    protocol = {"pruner": kind(threshold=threshold), "aggregator": RadialAgreement(), "rounds": 1}
    (record,) = run_cells(cells(whole, protocol), trainer_for(whole), watch=seen)
    layout, mask = whole.layout, seen.states["0"].mask
    assert mask[layout.frozen].all()
    hidden = {"1.weight", "3.weight"} - frozen
    assert {s.name for s in layout.hidden} == hidden
    living = [layout.tensors(mask)[name].float().flatten() for name in hidden]
    assert record.rounds[-1].density == pytest.approx(float(torch.cat(living).mean()) if hidden else 1.0)
    counts = kept_counts(whole.units, layout, threshold, 2.1)
    for count, width, around in ((counts[0], 12, ("1.weight", "3.weight")), (counts[1], 8, ("3.weight", "5.weight"))):
        assert count == width or frozen.isdisjoint(around)
    if not hidden and (kind is ThresholdMask or "5.weight" in frozen):
        assert mask.all()


def test_a_budget_is_about_what_can_be_pruned() -> None:
    """1.weight is frozen: units of the second hidden layer alone may go, which 3.weight and 5.weight depend on."""
    whole = problem(network(["1.weight"]), chain=True)
    counts = kept_counts(whole.units, whole.layout, 0.3, 1.0)
    assert counts[0] == 12
    assert 0.55 * (96 + 80) <= counts[1] * (12 + 10) <= 0.7 * (96 + 80)


def test_with_nothing_but_normalisations_trained_the_whole_update_is_compared() -> None:
    names = [name for name, _ in network(norm=True).named_parameters() if not name.startswith("2.")]
    whole = problem(network(names, norm=True))
    assert whole.layout.layers == ()
    rows = torch.randn(3, whole.layout.size) * whole.layout.trained
    weights = whole.initial * whole.layout.trained
    expected = torch.cosine_similarity(rows, weights[None])
    mask = torch.ones_like(whole.layout.trained)
    torch.testing.assert_close(radial_cosine(OpenRows(rows), weights, Layers(whole.layout, mask, mask)), expected)
    protocol = {"pruner": ThresholdMask(), "aggregator": RadialAgreement()}
    (record,) = run_cells(cells(whole, protocol), SequentialTrainer())
    assert record.rounds[-1].density == 1.0
    assert record.guidance is not None
    assert record.guidance.sample == []
