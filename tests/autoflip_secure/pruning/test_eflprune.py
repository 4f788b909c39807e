"""EFLPrune's rounds: units by hand, weights that survive their mask, what travels, and a client that decides it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from digits_cells import CLIENTS, PROBLEM, TRAIN, X, cell
from hypothesis import given
from hypothesis import strategies as st
from sizes import every
from summed_steps import summed_by_hand
from torch import Tensor

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_jobs
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import PruneView, UpdateAttack
from autoflip_secure.pruning.eflprune import EFLPrune
from autoflip_secure.records.run import RunRecord
from autoflip_secure.seeds import generator
from autoflip_secure.training import choose_trainer, evaluate

LAYOUT, UNITS = PROBLEM.layout, PROBLEM.units
WIDTHS = (32, 16)
LAYERS = (("1.weight", "3.weight"), ("3.weight", "5.weight"))  # what leads into a layer's units, and out of them


class Seen(Watcher):
    """Keeps the states and the models that are tested."""

    def __init__(self) -> None:
        self.states: dict[int, ServerState] = {}
        self.tested: dict[int, ServerState] = {}
        self.updates: dict[int, Tensor] = {}

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.states[before.round], self.states[after.round] = before, after
        self.updates[after.round] = sent.clone()

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.tested[state.round] = state


def watched(one: Cell, kind: Literal["auto", "sequential"] = "auto") -> tuple[RunRecord, Seen]:
    seen = Seen()
    return run_cells([one], choose_trainer(PROBLEM.module, LAYOUT, X[:1], kind), watch=seen)[0], seen


def scores(weights: Tensor, criterion: str) -> list[list[float]]:
    named, found = LAYOUT.tensors(weights), []
    for width, (into, out) in zip(WIDTHS, LAYERS, strict=True):
        own = []
        for unit in range(width):
            incoming, outgoing = named[into][unit].abs().double(), named[out][:, unit].abs().double()
            if criterion == "in_out":
                own.append(float((incoming.mean() * outgoing.mean()).sqrt()))
            else:
                own.append(float(incoming.sum() if criterion == "l1" else incoming.square().sum().sqrt()))
        found.append(own)
    return found


def block(kept: list[set[int]]) -> Tensor:
    """The mask between these units, tensor by tensor."""
    mask = torch.zeros(LAYOUT.size, dtype=torch.bool)
    named, first, second = LAYOUT.tensors(mask), *(sorted(own) for own in kept)
    for unit in first:
        named["1.weight"][unit] = True
        named["1.bias"][unit] = True
        for following in second:
            named["3.weight"][following, unit] = True
    for unit in second:
        named["3.bias"][unit] = True
        named["5.weight"][:, unit] = True
    named["5.bias"][:] = True
    return mask


def best(own: list[float], count: int) -> set[int]:
    return set(sorted(range(len(own)), key=lambda unit: (-own[unit], unit))[:count])


@pytest.mark.parametrize(("criterion", "trainer"), every(2, [("l1", "auto"), ("l2", "sequential"), ("in_out", "auto")]))
def test_each_round_trains_the_best_units_and_the_others_keep_their_weights(criterion: Any, trainer: Any) -> None:
    one = cell(rounds=4, pruner=EFLPrune(keep=0.4, criterion=criterion), attack=Push(clients=(1, 2, 3)))
    _, seen = watched(one, trainer)
    whole, returned = PROBLEM.initial.clone(), 0  # W, by hand
    for number in range(1, 5):
        mask = block(
            [best(own, round(0.4 * width)) for own, width in zip(scores(whole, criterion), WIDTHS, strict=True)]
        )
        before, after = seen.states[number - 1], seen.states[number]
        assert torch.equal(before.mask, mask)
        assert torch.equal(before.weights, torch.where(mask, before.whole, 0.0))
        assert torch.allclose(before.whole, whole, atol=1e-4)
        clients = one.cohort(number)
        jobs = client_jobs(one, torch.where(mask, whole, 0.0), mask, clients, number)
        sizes = [float(len(job.samples)) for job in jobs]
        honest = (~one.malicious_in(number)[clients]).tolist()
        for job, row, plain in zip(jobs, seen.updates[number], honest, strict=True):
            assert not row[~mask].any()
            if plain:
                end, _, _ = summed_by_hand(PROBLEM.module, LAYOUT, X[TRAIN], job, one.protocol.training)
                assert torch.allclose(row, (end - job.start) * mask, atol=1e-3)
        step = sum(n * row for n, row in zip(sizes, seen.updates[number], strict=True)) / sum(sizes)
        whole = torch.where(mask, whole + step, whole)
        if number > 1:
            came = mask & ~seen.states[number - 2].mask
            returned += int(came.sum())
            assert not came.any() or before.weights[came].any()  # with their value, not with zero
        assert torch.allclose(after.whole, whole, atol=1e-4)
    assert returned > 0


class Push(UpdateAttack):
    """The incoming weights of the units that are worth least are made large; what they train is left as it is."""

    kind: Literal["push"] = "push"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        lie = updates.clone()
        lie[:, LAYOUT["1.weight"].slice] -= 0.9 * PROBLEM.initial[LAYOUT["1.weight"].slice]
        return torch.where(malicious[:, None], lie, updates)


class Inflate(UpdateAttack):
    """Three units of the first layer are made large where they are live, and the others small."""

    kind: Literal["inflate"] = "inflate"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        lie = updates.clone()
        lie[:, LAYOUT["1.weight"].slice].view(len(lie), 32, 64)[:, :3] += 50.0
        return torch.where(malicious[:, None] & active, lie, updates)


def test_one_client_decides_which_units_stay_when_nothing_defends() -> None:
    def kept(**more: Any) -> Tensor:
        pruner = EFLPrune(keep=0.2, fresh=0.5)  # so that all are sent some time
        _, seen = watched(cell(rounds=6, cohort=CLIENTS, pruner=pruner, **more))
        assert UNITS is not None
        return torch.stack([UNITS.live_units(seen.states[n].mask, LAYOUT)[0][:3] for n in range(7)])

    lied, honest = kept(attack=Inflate(clients=(0,))), kept()
    assert float(lied.float().mean()) > float(honest.float().mean()) + 0.2
    for unit in range(3):  # once it was live under the liar, it stays
        ones = lied[:, unit].nonzero().squeeze(1).tolist()
        assert not ones or ones == list(range(ones[0], 7))


def test_bytes_and_operations_are_those_of_the_compact_block_and_a_bit_a_unit() -> None:
    record, seen = watched(cell(rounds=4, pruner=EFLPrune(keep=0.5)))
    told = dict[int, bytes]()
    for one in record.rounds:
        mask = seen.states[one.round - 1].mask
        live, own = 4 * (14 + 4 * int(mask.sum())), mask.numpy().tobytes()
        new = [k for k in one.participants if told.get(k) != own]
        assert one.bytes.downlink_values == live + 6 * len(new)  # 48 units
        assert one.bytes.uplink_values == live
        assert one.channels is None
        told |= dict.fromkeys(one.participants, own)
    assert record.rounds[0].bytes.downlink_values > record.rounds[0].bytes.uplink_values
    assert record.costs.model_flops.compacted == 2 * (64 * 16 + 16 * 8 + 8 * 10)
    assert record.costs.model_flops.dense == 2 * (64 * 32 + 32 * 16 + 16 * 10)
    assert record.rounds[0].flops.compacted < 0.6 * record.rounds[0].flops.dense
    assert record.client_state is None
    assert "prune (masked weights keep their value on the server)" in record.pipeline


@pytest.mark.parametrize("which", ["subnet", "full"])
def test_what_is_tested_is_what_is_said(which: Any) -> None:
    record, seen = watched(cell(rounds=3, pruner=EFLPrune(keep=0.5, evaluate=which)))
    last, final = seen.tested[3], seen.states[3]
    weights = final.whole if which == "full" else torch.where(final.mask, final.whole, 0.0)
    assert torch.equal(last.weights, weights)
    assert bool(last.mask.all()) == (which == "full")
    accuracy, _ = evaluate(PROBLEM.module, LAYOUT, weights[None], PROBLEM.x_test, PROBLEM.y_test)
    assert record.final_accuracy == pytest.approx(float(accuracy[0]))
    assert (record.mask is None) == (which == "full")
    assert (record.costs.model_flops.compacted == record.costs.model_flops.dense) == (which == "full")
    assert record.rounds[-1].density == pytest.approx(float(seen.states[2].mask[LAYOUT.prunable].double().mean()))


def view(weights: Tensor, round_: int = 3) -> PruneView:
    everything = torch.ones(LAYOUT.size, dtype=torch.bool)
    return PruneView(
        LAYOUT, UNITS, weights, everything, None, None, round_, 5, lambda *address: generator(0, 7, *address)
    )


@given(st.integers(0, 100), st.sampled_from(["layer", "global"]), st.sampled_from([0.05, 0.3, 0.6, 1.0]),
       st.sampled_from([0.0, 0.25, 1.0]))  # fmt: skip
def test_as_many_as_asked_stay_and_a_share_of_them_is_drawn(seed: int, scope: Any, keep: float, fresh: float) -> None:
    weights = torch.randn(LAYOUT.size, generator=torch.Generator().manual_seed(seed))
    assert UNITS is not None
    first, second = (
        [own.nonzero().squeeze(1).tolist() for own in UNITS.live_units(EFLPrune(
            keep=keep, scope=scope, fresh=share).mask(view(weights)), LAYOUT)[:-1]]
        for share in (fresh, 0.0)
    )  # fmt: skip
    by_size = scores(weights, "l1")
    for drawn, plain, width, own in zip(first, second, WIDTHS, by_size, strict=True):
        assert len(drawn) == len(plain)
        replaced = min(round(fresh * len(plain)), width - len(plain))
        assert len({*plain} - {*drawn}) == replaced
        if scope == "layer":
            assert {*plain} == best(own, max(2, round(keep * width)))
    if scope == "global":
        means = sorted(([s / 64 for s in by_size[0]] + [s / 32 for s in by_size[1]]), reverse=True)
        kept = [by_size[0][u] / 64 for u in second[0]] + [by_size[1][u] / 32 for u in second[1]]
        assert len(kept) == max(round(keep * 48), 4)
        if min(len(second[0]), len(second[1])) > 2:
            assert sorted(kept, reverse=True) == pytest.approx(means[: len(kept)], rel=1e-4)


@pytest.mark.slow
def test_a_cell_has_its_numbers_beside_others_and_a_model_without_units_is_refused() -> None:
    trainer = choose_trainer(PROBLEM.module, LAYOUT, X[:1])
    cells = [cell("a", rounds=2, pruner=EFLPrune(fresh=0.3)), cell("b", seed=2, rounds=2)]
    for one, record in zip(cells, run_cells(cells, trainer), strict=True):
        assert run_cells([one], trainer)[0].numbers() == record.numbers()
    with pytest.raises(UnsupportedModelError, match="units are unknown"):
        EFLPrune().mask(replace(view(PROBLEM.initial), units=None))
