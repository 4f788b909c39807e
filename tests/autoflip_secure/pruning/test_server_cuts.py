"""FedSparsify and the controls of equal density, against their definitions written out weight by weight."""

from __future__ import annotations

from math import floor
from typing import Any

import pytest
import torch
from digits_cells import PROBLEM, cell, run
from hypothesis import given
from hypothesis import strategies as st
from sizes import every
from torch import Tensor

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.models.layout import Layout, Segment
from autoflip_secure.pruning.erk import RandomErk
from autoflip_secure.pruning.fedsparsify import FedSparsify
from autoflip_secure.pruning.hidden_cuts import best_overall
from autoflip_secure.pruning.magnitude import Magnitude
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer

LAYOUT = PROBLEM.layout
HIDDEN = 64 * 32 + 32 * 16


class States(Watcher):
    """The model before round 1 and after every round."""

    def __init__(self) -> None:
        self.all: list[ServerState] = []

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.all.append(state)


def states(one: Cell) -> list[ServerState]:
    seen = States()
    run_cells([one], choose_trainer(PROBLEM.module, LAYOUT, PROBLEM.x_train[:1]), watch=seen)
    return seen.all


def view(**more: Any) -> PruneView:
    settings: dict[str, Any] = {
        "layout": LAYOUT, "units": None, "weights": PROBLEM.initial, "exploration": None, "guidance": None,
        "mask": torch.ones(LAYOUT.size, dtype=torch.bool), "round": 0, "rounds": 10,
        "generator": lambda *address: generator(3, Purpose.PRUNING, *address),
    }  # fmt: skip
    return PruneView(**(settings | more))


def smallest_go(weights: Tensor, live: list[int], count: int) -> set[int]:
    """Sorted by size, one after the other, but never a tensor's largest; the first of equal ones stays."""
    sizes, alive = weights.abs().tolist(), set(live)
    own = [[i for i in range(s.start, s.stop) if i in alive] for s in LAYOUT.hidden]
    largest = {max(places, key=lambda i: (sizes[i], -i)) for places in own}
    order = sorted(live, key=lambda i: (sizes[i], -i))
    return set([i for i in order if i not in largest][:count])


@pytest.mark.parametrize(("step", "begin", "until"), every(2, [(2, 0.2, 0.8), (1, 0.0, 1.0)]))
def test_fedsparsify_follows_its_timetable_and_cuts_what_is_smallest(step: int, begin: float, until: float) -> None:
    rounds, final = 10, 0.9
    pruner = FedSparsify(sparsity=final, every=step, begin=begin, until=until)
    seen = states(cell(rounds=rounds, pruner=pruner))
    first, last = int(begin * rounds), int(until * rounds)
    live = [i for s in LAYOUT.hidden for i in range(s.start, s.stop)]
    for number, state in enumerate(seen):
        now = floor(min(number, last) / step) * step
        gone = 0.0 if now <= first else final * (1 - (1 - (now - first) / (last - first)) ** 3)
        wanted = round((1 - gone) * HIDDEN)
        assert int(state.mask[LAYOUT.prunable].sum()) == wanted
        left = state.mask.nonzero().squeeze(1).tolist()
        assert set(left) - set(live) == set((~LAYOUT.prunable).nonzero().squeeze(1).tolist())  # all others stay
        alive = state.mask.tolist()
        dead = [i for i in live if not alive[i]]
        if dead:  # what was cut is no larger than what stays, and zero
            assert not state.weights[dead].any()
        live = [i for i in live if alive[i]]
    assert len(live) == round((1 - final) * HIDDEN)


def test_one_cut_of_fedsparsify_is_that_of_the_specification() -> None:
    mask = FedSparsify(sparsity=0.5, every=10).mask(view(round=10))
    hidden = LAYOUT.prunable.nonzero().squeeze(1).tolist()
    assert {i for i in hidden if not mask[i]} == smallest_go(PROBLEM.initial, hidden, HIDDEN // 2)
    half = view(round=10, mask=mask, weights=PROBLEM.initial * mask)
    again = FedSparsify(sparsity=0.5, every=10).mask(half)
    assert torch.equal(again, mask)  # what is gone counts, and is what goes first


def test_the_same_share_of_each_tensor() -> None:
    mask = FedSparsify(sparsity=0.75, every=10, scope="tensor").mask(view(round=10))
    for segment in LAYOUT.hidden:
        size = segment.stop - segment.start
        assert int(mask[segment.slice].sum()) == size // 4
        sizes = PROBLEM.initial[segment.slice].abs()
        assert float(sizes[mask[segment.slice]].min()) >= float(sizes[~mask[segment.slice]].max())


def test_a_control_is_cut_once_at_its_round_and_has_the_count_that_is_asked_for() -> None:
    for at, cut in ((0.0, 0), (0.5, 1), (1.0, 2)):
        seen = states(cell(rounds=2, pruner=Magnitude(density=0.2, at=at)))
        counts = [int(state.mask[LAYOUT.prunable].sum()) for state in seen]
        assert counts == [HIDDEN] * cut + [round(0.2 * HIDDEN)] * (3 - cut)
    mask, hidden = Magnitude(density=0.2).mask(view()), LAYOUT.prunable.nonzero().squeeze(1).tolist()
    gone = HIDDEN - round(0.2 * HIDDEN)
    assert {i for i in hidden if not mask[i]} == smallest_go(PROBLEM.initial, hidden, gone)


def test_masks_by_erk_have_equal_counts_however_they_are_chosen_and_repeat() -> None:
    """eps · (32 + 64) + eps · (16 + 32) = d · 2560; the second tensor would be denser than 1 from d = 0.9 on."""
    eps = 0.3 * HIDDEN / (96 + 48)
    wanted = [round(eps * 96), round(eps * 48)]
    drawn, largest = RandomErk(density=0.3).mask(view()), Magnitude(density=0.3, scope="erk").mask(view())
    for mask in (drawn, largest):
        assert [int(mask[s.slice].sum()) for s in LAYOUT.hidden] == wanted
        assert bool(mask[~LAYOUT.prunable].all())
    assert torch.equal(drawn, RandomErk(density=0.3).mask(view()))
    other = view(generator=lambda *address: generator(4, Purpose.PRUNING, *address))
    assert not torch.equal(drawn, RandomErk(density=0.3).mask(other))
    for segment in LAYOUT.hidden:  # chosen by no size
        sizes = PROBLEM.initial[segment.slice].abs()
        assert float(sizes[drawn[segment.slice]].mean()) == pytest.approx(float(sizes.mean()), rel=0.15)
    later = view(round=3, mask=drawn)
    assert RandomErk(density=0.3).mask(later) is later.mask


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 30),
       st.integers(0, 2**24 - 1))  # fmt: skip
def test_the_best_over_all_tensors_are_those_of_a_list_that_is_sorted(
    tensors: list[list[int]], count: int, dead: int
) -> None:
    segments, start = [], 0
    for number, scores in enumerate([*tensors, [9, 9]]):
        stop = start + len(scores)
        last = number == len(tensors)
        named: tuple[Any, ...] = (str(number), str(number), "weight", (len(scores), 1), start, stop)
        segments.append(Segment(*named, trained=True, hidden=not last, output=last, normalised=False))
        start = stop
    layout = Layout(tuple(segments))
    values = torch.tensor([float(x) for scores in [*tensors, [9, 9]] for x in scores])
    live = torch.tensor([not dead >> i & 1 for i in range(layout.size)])
    mask = best_overall(values, live, layout, count)
    order = sorted((i for s in layout.hidden for i in range(s.start, s.stop) if live[i]), key=lambda i: -values[i])
    sure = [next(i for i in order if s.start <= i < s.stop) for s in layout.hidden if bool(live[s.slice].any())]
    kept = {*sure, *[i for i in order if i not in sure][: max(0, count - len(sure))]}
    assert {i for i in order if mask[i]} == kept
    assert torch.equal(mask[-2:], live[-2:])


@pytest.mark.parametrize("pruner", every(3, [FedSparsify(), RandomErk(), Magnitude()]), ids=lambda p: str(p.kind))
def test_nothing_but_the_live_update_travels(pruner: Pruner) -> None:
    record = run(cell(rounds=4, pruner=pruner))[0]
    assert record.costs.channels is None
    assert record.exploration is None
    exempt = LAYOUT.size - HIDDEN
    before = HIDDEN if isinstance(pruner, FedSparsify) else round(0.3 * HIDDEN)
    live = exempt + before  # what round 1 is trained and sent with
    header = record.rounds[0].bytes.uplink_values - 4 * 4 * live
    assert header == run(cell(rounds=1))[0].rounds[0].bytes.uplink_values - 4 * 4 * LAYOUT.size
    assert record.rounds[-1].bytes.uplink_values <= record.rounds[0].bytes.uplink_values


@pytest.mark.slow
def test_noise_of_clients_decides_what_is_cut_when_nothing_defends() -> None:
    pruner = FedSparsify(sparsity=0.9)
    clean, noisy = (
        states(cell(rounds=4, pruner=pruner, **more))
        for more in ({}, {"attack": GaussianNoise(sigma=5.0, clients=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9))})
    )
    both = clean[-1].mask & noisy[-1].mask & LAYOUT.prunable
    assert int(both.sum()) < 0.3 * 0.1 * HIDDEN  # about what two random masks of a tenth have in common: a tenth
