"""FedTiny and RigL: what goes and what comes, weight by weight; what travels for it, when; who can spoil it."""

from __future__ import annotations

from itertools import pairwise
from math import cos, floor, pi
from typing import Any, Literal

import pytest
import torch
from digits_cells import CLIENTS, PROBLEM, cell
from moving_masks import HIDDEN, LAYOUT, counts, gradient, shares, watched
from sizes import every
from torch import Tensor

from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.interfaces import Channel, Pruner, UpdateAttack
from autoflip_secure.pruning.erk import RandomErk
from autoflip_secure.pruning.fedrts import FedRTS
from autoflip_secure.pruning.fedtiny import SwapByGradient
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.scenarios.config.algorithms import ALGORITHMS
from autoflip_secure.training import choose_trainer


def swapped(mask: list[bool], weights: list[float], grads: list[float], count: int, *, returning: bool) -> list[bool]:
    """One tensor: sorted by hand."""
    live = [i for i, own in enumerate(mask) if own]
    dead = [i for i, own in enumerate(mask) if not own]
    going = sorted(live, key=lambda i: (abs(weights[i]), i))[:count]
    free = sorted(going + dead) if returning else dead
    coming = sorted(free, key=lambda i: (-abs(grads[i]), i))[:count]
    kept = {*live} - {*going} | {*coming}
    return [i in kept for i in range(len(mask))]


FLIPPED = LabelFlip(scope=0.5, share=1.0)


@pytest.mark.parametrize(
    ("at", "returning", "attack"),
    every(4, [("end", False, None), ("start", False, None), ("start", True, None), ("end", True, FLIPPED)]),
)
def test_swaps_are_those_of_the_specification(at: Any, returning: bool, attack: Any) -> None:
    pruner = SwapByGradient(density=0.3, every=2, until=0.8, share=0.5, at=at, returning=returning)
    one = cell(rounds=10, pruner=pruner, **({} if attack is None else {"attack": attack}))
    _, seen = watched(one)
    assert sorted(seen.rows) == [2, 4, 6]  # T is 8, and nothing moves from there on
    first = seen.before[1].mask
    assert torch.equal(first, watched(cell(rounds=1, pruner=RandomErk(density=0.3)))[1].before[1].mask)
    for number in range(1, 11):
        before, after = seen.before[number], seen.after[number]
        if number not in seen.rows:
            assert torch.equal(after.mask, before.mask)
            continue
        starts = before.weights * before.mask
        grads = []
        for client, update, sent in zip(
            seen.clients[number], seen.updates[number], seen.rows[number]["gradient"], strict=True
        ):
            own = gradient(one, starts if at == "start" else starts + update, client, number)
            assert torch.allclose(sent, own[LAYOUT.prunable], rtol=1e-3, atol=1e-5)
            grads.append(sent)
        mean = torch.zeros(LAYOUT.size)
        mean[LAYOUT.prunable] = shares(one, seen.clients[number]) @ torch.stack(grads)
        moved = starts + shares(one, seen.clients[number]) @ seen.updates[number]  # the model before the swap
        for segment in LAYOUT.hidden:
            live = before.mask[segment.slice].tolist()
            count = floor(0.25 * (1 + cos(pi * number / 8)) * sum(live))
            values, slopes = moved[segment.slice].tolist(), mean[segment.slice].tolist()
            wanted = torch.tensor(swapped(live, values, slopes, count, returning=returning))
            assert int((after.mask[segment.slice] ^ wanted).sum()) <= 2  # sizes that differ in their last bit
        assert counts(after.mask) == counts(first)
        grown = after.mask & ~before.mask
        assert bool(grown.any())
        assert not after.weights[grown].any()  # what comes starts at zero
        stays = after.mask & before.mask
        assert torch.allclose(after.weights[stays], moved[stays], atol=1e-6)  # what returns keeps its value
        assert not after.weights[~after.mask].any()


def test_a_short_run_moves_its_mask_once_and_one_without_rounds_never() -> None:
    def moves(rounds: int, **options: Any) -> list[int]:
        pruner = SwapByGradient(**options)
        found = [number for number in range(rounds + 1) if pruner.moves(number, rounds)]
        assert pruner.last_move(rounds) == max(found, default=0)
        return found

    assert moves(500) == list(range(10, 300, 10))
    assert moves(10) == [3]  # T = 6
    assert moves(10, until=0.5) == moves(4, until=1.0) == [2]
    assert moves(3) == moves(60, until=0.0) == []
    assert moves(40, every=7, until=0.75) == [7, 14, 21, 28]


def test_dense_tensors_have_nothing_to_swap_with() -> None:
    _, seen = watched(cell(rounds=4, pruner=SwapByGradient(density=1.0, every=1, share=1.0)))
    assert all(bool(state.mask.all()) for state in seen.after.values())


def test_gradients_travel_in_rounds_that_move_the_mask_and_cost_a_pass_with_dense_gradients() -> None:
    pruner = SwapByGradient(density=0.3, every=2, until=0.6)
    plain, ours = watched(cell(rounds=6, pruner=RandomErk(density=0.3)))[0], watched(cell(rounds=6, pruner=pruner))[0]
    message = 10 + 4 * HIDDEN
    assert [entry.channels for entry in ours.rounds] == [None, {"gradient": 4 * message}, *[None] * 4]
    for kind in ("uplink_values", "uplink_bitmask"):
        assert getattr(ours.costs.bytes, kind) - getattr(plain.costs.bytes, kind) == 4 * message
    whole = watched(cell(rounds=1))[0].costs.model_flops
    samples = [sum(len(PROBLEM.clients[k]) for k in one.rounds[number].participants)
               for one, number in ((ours, 1), (plain, 0))]  # fmt: skip
    for kind in ("dense", "sparse", "compacted"):
        more = getattr(ours.rounds[1].flops, kind) - getattr(plain.rounds[1].flops, kind)
        once = getattr(plain.rounds[0].flops, kind) / 2 / samples[1]  # a sample in one of two epochs
        weights = getattr(whole, kind) - getattr(plain.costs.model_flops, kind)  # gradients that the mask would save
        assert more == pytest.approx(samples[0] * (once + weights), rel=1e-6)


THRESHOLD: Any = {"threshold": 0.5, "refine_every": 2, "refine_factor": 1.0, "refine_until": 1.0}


@pytest.mark.parametrize(
    ("pruner", "returns"),
    [
        (SwapByGradient(density=0.3, every=2, until=0.8, share=0.5), True),
        (FedRTS(density=0.3, every=2, until=0.8, share=0.5), True),
        (ThresholdMask(growth=1.0, **THRESHOLD), True),
        (ThresholdMask(**THRESHOLD), False),  # shrinks alone
    ],
)
def test_a_mask_in_which_weights_return_is_sent_to_whoever_had_it_without_them(pruner: Pruner, returns: bool) -> None:
    record, seen = watched(cell(rounds=10, pruner=pruner))
    masks = [seen.before[number].mask for number in range(1, 11)]
    assert any(not torch.equal(one, other) for one, other in pairwise(masks))
    had: dict[int, int] = {}  # client -> place of the mask that it was sent last, or takes for known
    sent = 0
    for place, (mask, entry) in enumerate(zip(masks, record.rounds, strict=True)):
        new = [
            k
            for k in entry.participants
            if any(bool((masks[p] & ~masks[p - 1]).any()) for p in range(had.get(k, 0) + 1, place + 1))
        ]
        dead_units = not bool(mask[~LAYOUT.prunable].all())  # of which biases are told, too
        bits = -(-(LAYOUT.size if dead_units else HIDDEN) // 8)
        assert entry.bytes.downlink_values == 4 * (14 + 4 * int(mask.sum())) + bits * len(new)
        assert entry.bytes.downlink_bitmask == 4 * (14 + 4 * int(mask.sum()) + bits)
        had |= dict.fromkeys(entry.participants, place)
        sent += len(new)
    assert (sent > 5) == returns
    assert (sent > 0) == returns


@pytest.mark.slow
def test_a_cell_has_the_same_numbers_alone_beside_others_and_again() -> None:
    trainer = choose_trainer(PROBLEM.module, LAYOUT, PROBLEM.x_train[:1])
    one = cell(rounds=6, pruner=SwapByGradient(every=1), attack=LabelFlip(scope=0.3))
    alone, again = (run_cells([one], trainer)[0] for _ in range(2))
    others = [cell("a", seed=3, rounds=6), cell("b", seed=1, rounds=6, pruner=SwapByGradient(every=2))]
    beside = run_cells([*others, one], trainer)[-1]
    assert beside.numbers() == alone.numbers() == again.numbers()


class Boast(UpdateAttack):
    """Honest updates; the last ten hidden weights have a gradient like no others."""

    kind: Literal["boast"] = "boast"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        return updates

    def channel(self, channel: Channel, rows: Tensor, malicious: Tensor, generators: Any) -> Tensor:
        lie = torch.zeros_like(rows)
        lie[:, -10:] = 1e6
        return torch.where(malicious[:, None], lie, rows)


def test_one_liar_decides_what_grows_when_nothing_defends() -> None:
    last = LAYOUT.prunable.nonzero().squeeze(1)[-10:]
    pruner = SwapByGradient(density=0.2, every=2, until=1.0, share=1.0)
    honest, lied = (
        watched(cell(rounds=3, cohort=CLIENTS, pruner=pruner, **more))[1]
        for more in ({}, {"attack": Boast(clients=(0,))})
    )
    free = last[~lied.before[2].mask[last]]
    assert len(free) > 0
    assert bool(lied.after[2].mask[free].all())
    assert not bool(honest.after[2].mask[free].all())


def test_rigl_is_the_same_rule_with_its_own_timetable() -> None:
    found = SwapByGradient.model_validate(ALGORITHMS["rigl"].pruner)
    assert (found.share, found.until, found.returning) == (0.3, 0.75, True)
    assert SwapByGradient.model_validate(ALGORITHMS["fedtiny"].pruner) == SwapByGradient()
