"""One row may be any number of times as long as the others: every aggregator against its equation in plain doubles.

What an attacker sends is a number like any other, and must not decide how exactly the others are computed with.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from sizes import every
from slow_servers import SlowAgreement, SlowRadial
from torch import nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.algorithm.guidance import NORMALISATIONS, evolve, initial_guidance, normalise
from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.geometric_median import GeometricMedian
from autoflip_secure.defenses.aggregators.krum import Krum, MultiKrum
from autoflip_secure.defenses.aggregators.median import TrimmedMean
from autoflip_secure.defenses.privacy.mechanisms import clip_to
from autoflip_secure.federation.clients import LARGEST_NORM, usable_rows
from autoflip_secure.federation.measures import variance_between_clients, variance_over_coordinates
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, Guidance, RoundView
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config.tables import AGGREGATORS

LAYOUT = Layout.of(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
P = LAYOUT.size
CLIENTS, LONG = 7, 3  # the one with a row of another length
SAMPLES = [10.0 + k for k in range(CLIENTS)]
LENGTHS = [1.0, 1e3, 1e6, 1e12, LARGEST_NORM]  # the last one to the edge of what the server lets through
Rows = np.ndarray  # (clients, params), in double


def cohort(length: float, seed: int, *, turned: bool = False) -> torch.Tensor:
    """Honest rows of norm about 1, and one of ``length``: in a direction of its own, or against the others."""
    draw = torch.Generator().manual_seed(seed)
    rows = (0.5 + torch.randn(CLIENTS, P, generator=draw)) / P**0.5
    away = -rows.mean(0) if turned else rows[LONG]
    rows[LONG] = away * (length * (1 - 1e-6) / away.norm())
    return rows


def view(rows: torch.Tensor, weights: torch.Tensor, energy: torch.Tensor) -> RoundView:
    return RoundView(
        round=1, clients=torch.arange(CLIENTS), samples=torch.tensor(SAMPLES), updates=rows, weights=weights,
        mask=torch.ones(P, dtype=torch.bool), guidance=Guidance(energy, torch.ones(P)), layout=LAYOUT,
        shrinkage=torch.zeros(CLIENTS),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------- the equations, once more


def norm(x: Rows) -> float:
    return math.sqrt(math.fsum(float(a) ** 2 for a in x))


def mean(rows: Rows) -> Rows:
    return sum(n / sum(SAMPLES) * row for n, row in zip(SAMPLES, rows, strict=True))


def trimmed(rows: Rows) -> Rows:
    cut = round(TrimmedMean().bad_share * CLIENTS)
    return np.array([math.fsum(sorted(column)[cut:-cut]) / (CLIENTS - 2 * cut) for column in rows.T])


def krum_order(rows: Rows) -> list[int]:
    malicious = round(Krum().bad_share * CLIENTS)
    scores = []
    for k in range(CLIENTS):
        squares = sorted(norm(rows[k] - rows[other]) ** 2 for other in range(CLIENTS) if other != k)
        scores.append(math.fsum(squares[: CLIENTS - malicious - 1]))
    return sorted(range(CLIENTS), key=scores.__getitem__)


def multi_krum(rows: Rows) -> Rows:
    return rows[krum_order(rows)[: CLIENTS - round(MultiKrum().bad_share * CLIENTS)]].mean(0)


def slope(rows: Rows, point: Rows) -> float:
    """Length of the gradient of the summed distance, weighted with shares of samples: 0 at the geometric median."""
    pulls = [n / sum(SAMPLES) * (point - row) / norm(point - row) for n, row in zip(SAMPLES, rows, strict=True)]
    return norm(sum(pulls))


def geometric_median(rows: Rows) -> Rows:
    point = np.median(rows, 0)
    for _ in range(300):
        pull = [n / max(1e-6, norm(point - row)) for n, row in zip(SAMPLES, rows, strict=True)]
        point = sum(p / math.fsum(pull) * row for p, row in zip(pull, rows, strict=True))
    assert slope(rows, point) < 1e-9
    return point


def centred_clipping(rows: Rows) -> Rows:
    norms = [norm(row) for row in rows]  # the first centre is zero
    radius = sorted(norms)[(CLIENTS - 1) // 2]
    return sum(min(1, radius / length) * row for length, row in zip(norms, rows, strict=True)) / CLIENTS


WEIGHTS = torch.randn(P, generator=torch.Generator().manual_seed(50))
ENERGY = torch.rand(P, generator=torch.Generator().manual_seed(51)) ** 4
EXPLORED = ENERGY.sqrt() * (0.3 * WEIGHTS + torch.randn(CLIENTS, P, generator=torch.Generator().manual_seed(52)))


def agreement(rows: Rows) -> tuple[list[float], Rows]:
    return SlowAgreement(P).round(rows.tolist(), list(range(CLIENTS)), ENERGY.double().tolist())


def radial(rows: Rows) -> tuple[list[float], Rows]:
    w = WEIGHTS.double().numpy()
    slow = SlowRadial(LAYOUT, w, ENERGY.double().numpy(), EXPLORED.double().numpy())
    return slow.round(rows, list(range(CLIENTS)), SAMPLES, w)


STEPS: dict[str, Callable[[Rows], Rows]] = {
    "mean": mean,
    "median": lambda rows: np.median(rows, 0),
    "trimmed_mean": trimmed,
    "krum": lambda rows: rows[krum_order(rows)[0]],
    "multi_krum": multi_krum,
    "geometric_median": geometric_median,
    "centered_clipping": centred_clipping,
    "agreement": lambda rows: agreement(rows)[1],
    "radial": lambda rows: radial(rows)[1],
}
SCORES = {"agreement": lambda rows: agreement(rows)[0], "radial": lambda rows: radial(rows)[0]}


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
    for seed in range(4):
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


# ------------------------------------------------------------------------------------ landscape, guidance, the record


def energies(rows: Rows, weights: list[float]) -> Rows:
    return sum(w * (row / norm(row)) ** 2 for w, row in zip(weights, rows, strict=True))


@pytest.mark.parametrize("length", LENGTHS, ids=lambda x: f"{x:g}")
@pytest.mark.parametrize("method", ["robust", "plain", "linear"])
def test_landscape_and_guidance_are_finite_whatever_explorers_send(method: str, length: float) -> None:
    rows = cohort(length, 0)
    explored = explore(torch.arange(CLIENTS), torch.tensor(SAMPLES), rows, method, [[0.0]] * CLIENTS)
    squares, exact = sum(row**2 for row in rows.double().numpy()), rows.double().numpy()
    if method == "plain":
        expected = squares / squares.sum()
    else:
        shares = [float(a) * float(k) for a, k in zip(explored.agreement, explored.kept, strict=True)]
        shares = shares if method == "robust" else [float(k) for k in explored.kept]
        expected = energies(exact, [share / sum(shares) for share in shares])
    assert explored.energy.tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-7)
    assert_usable(explored)


def assert_usable(explored: Exploration) -> None:
    assert float(explored.energy.sum()) == pytest.approx(1, abs=1e-4)
    for kind in NORMALISATIONS:
        guidance = normalise(initial_guidance(explored).energy, LAYOUT, kind)
        assert bool(((guidance >= 0) & (guidance <= 1)).all())


@pytest.mark.parametrize("method", ["plain", "linear"])
@pytest.mark.parametrize("entry", [1e19, 3e38], ids=lambda x: f"{x:g}")
def test_landscape_of_explorers_who_all_lie(method: str, entry: float) -> None:
    """In single precision such rows have no squares. The server leaves them out before; this does not rely on it."""
    rows = torch.full((CLIENTS, P), entry)
    rows[:, ::2] *= -1
    assert_usable(explore(torch.arange(CLIENTS), torch.tensor(SAMPLES), rows, method, [[0.0]] * CLIENTS))


@pytest.mark.parametrize("length", LENGTHS, ids=lambda x: f"{x:g}")
def test_guidance_evolves_by_its_equation(length: float) -> None:
    rows, trust = cohort(length, 1), torch.tensor(SAMPLES) / sum(SAMPLES)
    begun = Guidance(ENERGY / ENERGY.sum(), torch.ones(P))
    found, exact, omega = evolve(begun, rows, trust, 0.1), rows.double().numpy(), trust.double().tolist()
    energy = 0.9 * begun.energy.double().numpy() + 0.1 * energies(exact, omega)
    assert found.energy.tolist() == pytest.approx(energy.tolist(), rel=1e-4)
    moved = sum(w * np.abs(row) for w, row in zip(omega, exact, strict=True))
    along = np.abs(sum(w * row for w, row in zip(omega, exact, strict=True)))
    assert found.parameter_agreement.tolist() == pytest.approx((0.9 + 0.1 * along / moved).tolist(), rel=1e-4)


@pytest.mark.parametrize("length", [*LENGTHS, 1e19], ids=lambda x: f"{x:g}")
def test_variances_in_the_record_are_exact(length: float) -> None:
    rows = cohort(length, 2)
    exact = statistics.fmean(statistics.pvariance(column) for column in rows.double().T.tolist())
    assert variance_between_clients(rows) == pytest.approx(exact, rel=1e-9)
    everywhere = torch.ones(P, dtype=torch.bool)
    assert variance_over_coordinates(rows[LONG], everywhere) == pytest.approx(
        statistics.pvariance(rows[LONG].double().tolist()), rel=1e-9
    )
    together = rows[:LONG] + length  # all of them far away, and as near to one another as single precision allows
    exact = statistics.fmean(statistics.pvariance(column) for column in together.double().T.tolist())
    assert variance_between_clients(together) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("clip", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("length", [*LENGTHS, 1e19, 3e38], ids=lambda x: f"{x:g}")
def test_no_row_is_longer_than_the_clip_norm(length: float, clip: float) -> None:
    """A sensitivity is no matter of rounding, not even where the factor has no digits in single precision."""
    rows = torch.full((1, P), length / 2 if length > 1e38 else length)
    assert norm(clip_to(rows, clip)[0].double().numpy()) <= clip


def test_what_the_server_lets_through() -> None:
    rows = torch.zeros(6, P)
    rows[1, 0], rows[2, 0], rows[3, 0], rows[4, 0], rows[5, 0] = 0.99e18, 1.01e18, 1e20, math.inf, math.nan
    assert usable_rows(rows).tolist() == [True, True, False, False, False, False]
