"""FedDST and FedSGC as written down, by plain loops, against the engine: masks, weights, and what travels when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import cos, pi
from typing import Any

import pytest
import torch
from digits_cells import PROBLEM, cell
from seen_rounds import watched
from sizes import every
from slow_clients import HELD, HIDDEN, LAYOUT, SlowClient, coverage_mean, density, prunable
from torch import Tensor

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.local_rules.regrow import Regrow
from autoflip_secure.local_rules.signed_regrow import SignedRegrow
from autoflip_secure.pruning.erk_of_all import ErkOfAll
from autoflip_secure.pruning.own_erk import erk

SCHEDULE = TrainingSchedule(epochs=3, lr=0.3, batch_size=8)
DENSITIES = erk({s.name: s.shape for s in HIDDEN}, 0.4)
DST = Regrow(share=0.5, every=2, until=0.7, after=2)
SGC = SignedRegrow(share=0.5, every=2, until=0.9, after=2, against=0.1, along=0.05)


def cell_of(rule: Regrow, **protocol: Any) -> Cell:
    settings = {"pruner": ErkOfAll(density=0.4), "aggregator": Mean(), "training": SCHEDULE, "local_rule": rule}
    return replace(cell("collected", 0, **(settings | {"rounds": 6, "cohort": 4} | protocol)), problem=HELD)


def cut(weights: Tensor, held: Tensor) -> Tensor:
    """The largest of what is held, by ERK."""
    mask = held.clone()
    for segment in HIDDEN:
        places = [j for j in range(segment.start, segment.stop) if held[j]]
        places.sort(key=lambda j: -abs(float(weights[j])))
        mask[places[round(DENSITIES[segment.name] * (segment.stop - segment.start)) :]] = False
    return mask


def regrown(w: Tensor, mask: Tensor, g: Tensor, *, rule: Regrow, share: float, start: Tensor, signs: Tensor) -> Tensor:
    """One client, one coordinate after the other; without directions FedDST's."""
    fresh = mask.clone()
    for segment in HIDDEN:
        places = range(segment.start, segment.stop)
        live, dead = [j for j in places if mask[j]], [j for j in places if not mask[j]]
        live.sort(key=lambda j: abs(float(w[j])))
        count = int(share * len(live))
        first = list[int]()
        if isinstance(rule, SignedRegrow):
            against = [j for j in live if signs[j] and torch.sign(w[j] - start[j]) == -signs[j]]
            first = against[: min(count, int(rule.against * len(live)))]
        goes = first + [j for j in live if j not in first][: count - len(first)]
        free = sorted({*dead, *goes}, key=lambda j: (-abs(float(g[j])), j))
        first = []
        if isinstance(rule, SignedRegrow):
            along = [j for j in free if j in set(dead) and signs[j] and -torch.sign(g[j]) == signs[j]]
            first = along[: min(count, int(rule.along * len(dead)))]
        comes = first + [j for j in free if j not in first][: count - len(first)]
        fresh[goes] = False
        fresh[comes] = True
    return fresh


@pytest.mark.parametrize("rule", every(2, [SGC, DST]))
def test_the_engine_is_what_is_written_down(rule: Regrow) -> None:
    one = cell_of(rule)
    record, seen = watched(one)
    client, signs = SlowClient(one), torch.zeros(LAYOUT.size)
    mask = cut(PROBLEM.initial, torch.ones(LAYOUT.size, dtype=torch.bool))
    weights, bits = torch.where(mask, PROBLEM.initial, 0.0), -(-prunable() // 8)
    knows, moved_rounds, resent = dict.fromkeys(range(10), torch.ones(LAYOUT.size, dtype=torch.bool)), [], 0
    for number, entry in enumerate(record.rounds, start=1):
        moving = (number - 1) % 2 == 0 and number < rule.until * 6
        share, sent, up, down = rule.share / 2 * (1 + cos(pi * number / (rule.until * 6))), {}, 0, 0
        move: Callable[..., Tensor] = partial(regrown, rule=rule, share=share, start=weights, signs=signs)
        for k in one.cohort(number).tolist():
            *_, (w, own) = client.epochs(weights, mask, number, k, {2: move} if moving else None)
            sent[k] = w, own
            unknown = not torch.equal(knows[k], mask)
            resent += unknown
            down += 14 + 4 * int(mask.sum()) + bits * unknown
            up += 14 + 4 * int(own.sum()) + bits * (not torch.equal(own, mask))
            if isinstance(rule, SignedRegrow) and moving and number > 1:
                down += 14 + -(-2 * LAYOUT.size // 8)
            knows[k] = own
        moved_rounds += [number] if any(not torch.equal(own, mask) for _, own in sent.values()) else []
        before, counts = weights, {k: float(len(HELD.clients[k])) for k in sent}
        weights = coverage_mean(weights, sent, counts)
        signs = torch.where(weights == before, signs, torch.sign(weights - before))
        held = mask | torch.stack([own for _, own in sent.values()]).any(0)
        mask = cut(weights, held)
        weights = torch.where(mask, weights, 0.0)
        torch.testing.assert_close(seen.weights[number], weights, rtol=0, atol=2e-5)
        assert torch.equal(seen.masks[number], mask)
        assert entry.density == pytest.approx(0.4, abs=0.001)
        assert (entry.bytes.uplink_values, entry.bytes.downlink_values) == (up, down)
    assert moved_rounds == ([1, 3] if rule is DST else [1, 3, 5])
    assert resent > 3
    assert density(mask) == pytest.approx(0.4, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [DST, SGC])
def test_under_attack_alone_and_beside_others_the_numbers_are_the_same(rule: Regrow) -> None:
    attack = {"attack": GaussianNoise(sigma=0.1, clients=(1, 4)), "rounds": 4}
    stacked, alone = watched(cell_of(rule, **attack))[0], watched(cell_of(rule, **attack), kind="sequential")[0]
    assert [r.density for r in stacked.rounds] == [r.density for r in alone.rounds]
    assert [r.bytes for r in stacked.rounds] == [r.bytes for r in alone.rounds]
    assert stacked.final_accuracy == pytest.approx(alone.final_accuracy, abs=0.02)
    flipped, _ = watched(cell_of(rule, attack=LabelFlip(share=1.0, to="target", target=3, clients=(2, 7)), rounds=4))
    assert flipped.digests["mask"] != stacked.digests["mask"]
