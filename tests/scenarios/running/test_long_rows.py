"""One row may be any number of times as long as the others: every aggregator against its equation in plain doubles.

What an attacker sends is a number like any other, and must not decide how exactly the others are computed with.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from row_equations import (
    CLIENTS,
    ENERGY,
    EXPLORED,
    LAYOUT,
    LENGTHS,
    ROOT,
    SAMPLES,
    SCORES,
    STEPS,
    WEIGHTS,
    P,
    cohort,
    krum_order,
    norm,
    slope,
)
from sizes import every, sized
from slow_servers import SlowAgreement

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.geometric_median import GeometricMedian
from autoflip_secure.defenses.aggregators.krum import Krum
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, Guidance, RoundView
from autoflip_secure.scenarios.config.tables import AGGREGATORS


def view(rows: torch.Tensor, weights: torch.Tensor, energy: torch.Tensor) -> RoundView:
    return RoundView(
        round=1, clients=torch.arange(CLIENTS), samples=torch.tensor(SAMPLES), updates=rows, weights=weights,
        mask=torch.ones(P, dtype=torch.bool), guidance=Guidance(energy, torch.ones(P)), layout=LAYOUT,
        shrinkage=torch.zeros(CLIENTS), generator=lambda *_: torch.Generator().manual_seed(0), root=ROOT,
    )  # fmt: skip


def test_every_aggregator_has_its_equation_here() -> None:
    assert set(STEPS) == set(AGGREGATORS)
    assert set(SCORES) == {kind for kind, cls in AGGREGATORS.items() if cls.scores_clients}


def aggregate(aggregator: Aggregator, rows: torch.Tensor) -> Aggregate:
    everybody = torch.ones(CLIENTS)
    explored = Exploration(torch.arange(CLIENTS), everybody, EXPLORED, ENERGY, everybody, everybody.bool())
    state = aggregator.start(LAYOUT, WEIGHTS, CLIENTS, explored)
    before = rows.clone()
    result = aggregator.aggregate(state, view(rows, WEIGHTS, ENERGY))
    assert torch.equal(rows, before)
    return result


@pytest.mark.parametrize("turned", [False, True], ids=["aside", "against"])
@pytest.mark.parametrize("length", every(2, LENGTHS), ids=lambda x: f"{x:g}")
@pytest.mark.parametrize("kind", AGGREGATORS)
def test_a_step_is_its_equation_beside_a_row_of_any_length(kind: str, length: float, turned: bool) -> None:
    for seed in range(sized(2, 4)):
        rows = cohort(length, seed, turned=turned)
        result, exact = aggregate(AGGREGATORS[kind](), rows), rows.double().numpy()
        expected = STEPS[kind](exact)
        apart = norm(result.delta.double().numpy() - expected)
        assert apart <= 1e-4 * max(1.0, norm(expected)), f"seed {seed}: {apart:g}"
        assert float(result.trust.sum()) == pytest.approx(1, abs=1e-5)
        if kind in SCORES:
            assert result.scores is not None
            assert result.scores.tolist() == pytest.approx(SCORES[kind](exact), abs=1e-3)


@pytest.mark.parametrize("length", LENGTHS, ids=lambda x: f"{x:g}")
def test_krum_chooses_whom_krum_would_choose(length: float) -> None:
    for seed in range(30):
        rows = cohort(length, seed)
        assert int(aggregate(Krum(), rows).trust.argmax()) == krum_order(rows.double().numpy())[0]


@pytest.mark.parametrize("length", LENGTHS, ids=lambda x: f"{x:g}")
def test_the_geometric_median_stands_still(length: float) -> None:
    for seed in range(10):
        rows = cohort(length, seed)
        aggregator = GeometricMedian()
        found = aggregate(aggregator, rows).delta.double().numpy()
        assert slope(rows.double().numpy(), found) < 1e-5
    one_step = aggregate(GeometricMedian(steps=1), rows).delta.double().numpy()
    assert slope(rows.double().numpy(), one_step) > 1e-4, "the doubt: it takes more than a step"


def test_the_geometric_median_leaves_a_row_that_is_the_median_of_every_coordinate() -> None:
    """At a row itself, all of whose weight is there, the steps are as short as the smoothing."""
    rows = torch.zeros(3, P)
    rows[1, 0], rows[1, 1], rows[2, 0], rows[2, 1] = 1e4, 1.0, -1.0, -1e4
    seen = RoundView(
        round=1, clients=torch.arange(3), samples=torch.ones(3), updates=rows, weights=torch.zeros(P),
        mask=torch.ones(P, dtype=torch.bool), guidance=None, layout=LAYOUT, shrinkage=torch.zeros(3),
    )  # fmt: skip
    x, y = GeometricMedian().aggregate(None, seen).delta[:2].tolist()
    assert (x, y) == pytest.approx((2113.2, -2113.2), rel=1e-3)  # Fermat's point: all sides under 120 degrees


def test_the_geometric_median_is_exact_where_it_began_in_the_lighter_crowd() -> None:
    """Four rows near zero, of which one is the first centre, and three that weigh more, 1e8 away."""
    rows, samples = cohort(1.0, 5), torch.tensor([1.0, 1.0, 1.0, 1.0, 30.0, 31.0, 32.0])
    rows[4:] = 1e8 + 20 * torch.randn(3, P, generator=torch.Generator().manual_seed(6))
    weights = GeometricMedian().weights(rows, samples).numpy()
    wide = rows.double().numpy()
    offsets = weights @ (wide - wide[5]) + wide[5] - wide
    pulls = (samples.numpy() / 97)[:, None] * offsets / np.linalg.norm(offsets, axis=1, keepdims=True)
    assert norm(pulls.sum(0)) < 1e-5


def test_the_geometric_median_between_two_crowds_stays_exact_in_the_heavier_one() -> None:
    """The coordinate-wise median lies halfway to the other crowd, 1e12 away: offsets from there lose the own crowd."""
    rows, samples = cohort(1.0, 5)[:4], torch.tensor([30.0, 31.0, 20.0, 21.0])
    rows[2:] += 1e12
    weights = GeometricMedian().weights(rows, samples)
    point = (weights @ rows.double()).numpy()
    share = (samples.double() / samples.double().sum()).numpy()
    pulls = [
        s * (point - row) / max(norm(point - row), 1e-6) for s, row in zip(share, rows.double().numpy(), strict=True)
    ]
    assert norm(sum(pulls)) < 1e-5


@pytest.mark.parametrize("length", LENGTHS, ids=lambda x: f"{x:g}")
def test_more_rounds_than_one(length: float) -> None:
    """Memories too: the long row comes again and again, and what is remembered of it is what the equation remembers."""
    aggregator, slow = AgreementWeighted(), SlowAgreement(P)
    state = aggregator.start(LAYOUT, WEIGHTS, CLIENTS, None)
    for round_ in range(4):
        rows = cohort(length, round_)
        result = aggregator.aggregate(state, view(rows, WEIGHTS, ENERGY))
        scores, step = slow.round(rows.double().tolist(), list(range(CLIENTS)), ENERGY.double().tolist())
        assert result.scores is not None
        assert result.scores.tolist() == pytest.approx(scores, abs=1e-3)
        assert result.delta.tolist() == pytest.approx(step, abs=2e-4)
        state = result.state


def test_clipping_around_a_centre_of_several_steps() -> None:
    for near, far in pairwise(LENGTHS[1:]):
        steps = [aggregate(CenteredClipping(steps=3), cohort(length, 0)).delta for length in (near, far)]
        assert (steps[0] - steps[1]).norm() < 1e-2, "how long the row is makes no difference once it is clipped"
