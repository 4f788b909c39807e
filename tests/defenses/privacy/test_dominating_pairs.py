"""Dominating pairs: no real cohort tells more than they do; by hand for one and two steps, both accountants agree."""

from __future__ import annotations

from itertools import combinations
from math import exp

import hypothesis.strategies as st
import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from scipy.integrate import trapezoid
from scipy.optimize import brentq
from scipy.stats import norm
from sizes import crossed, sized

from autoflip_secure.defenses.privacy.accountants import (
    EPSILON_ERROR,
    Mechanism,
    Pairs,
    over_directions,
    prv_epsilon,
    rdp_epsilon,
)
from autoflip_secure.defenses.privacy.dominating_pairs import PROFILE_ERROR, Direction, profile
from autoflip_secure.defenses.privacy.pld import pld_epsilon

WAYS: tuple[Direction, ...] = ("remove", "add", "replace")
noises = st.floats(0.3, 5)


@given(
    st.integers(2, 5).flatmap(lambda n: st.tuples(*[st.floats(-0.5, 0.5)] * (n + 1))),
    st.integers(1, 5),
    noises,
    st.floats(-2, 2),
)
@settings(max_examples=sized(15, 60), deadline=None)
def test_no_cohort_of_a_fixed_size_tells_more_than_the_pair(
    values: tuple[float, ...], drawn: int, noise: float, epsilon: float
) -> None:
    """The mixture over all cohorts, with the first value and with the last in its place, integrated."""
    *ours, other = values
    drawn = min(drawn, len(ours))
    x = np.linspace(-3 - 9 * noise, 3 + 9 * noise, 20_001)

    def seen(data: list[float]) -> np.ndarray:
        sums = [sum(cohort) for cohort in combinations(data, drawn)]
        return np.asarray(np.mean([norm.pdf(x, total, noise) for total in sums], axis=0))

    one, two = seen(ours), seen([other, *ours[1:]])
    bound = float(profile(noise, drawn / len(ours), "replace", np.array([epsilon]))[0])
    for p, q in ((one, two), (two, one)):
        assert float(trapezoid(np.maximum(p - exp(epsilon) * q, 0), x)) <= bound + 1e-6


@given(noises, st.integers(1, 4), st.floats(0, 3))
@settings(max_examples=sized(5, 20), deadline=None)
def test_and_one_cohort_tells_as_much(noise: float, drawn: int, epsilon: float) -> None:
    """Everybody but the one is at one end: above epsilon 0 the pair cannot be any closer."""
    x = np.linspace(-3 - 9 * noise, 3 + 9 * noise, 20_001)
    with_it = drawn / 4 * norm.pdf(x, 1, noise) + (1 - drawn / 4) * norm.pdf(x, 0, noise)
    seen = float(trapezoid(np.maximum(with_it - exp(epsilon) * norm.pdf(x, 0, noise), 0), x))
    assert seen == pytest.approx(float(profile(noise, drawn / 4, "replace", np.array([epsilon]))[0]), abs=1e-6)


def exactly(noise: float, rate: float, way: Direction, epsilon: float) -> mp.mpf:
    """Of two mixtures, the whole line cut where their densities are as 1 to exp(epsilon)."""
    if way == "replace":
        way = "add" if epsilon < 0 else "remove"
    s, q, ratio = mp.mpf(noise), mp.mpf(rate), mp.exp(mp.mpf(epsilon))
    level = ratio if way == "remove" else 1 / ratio  # of A / B
    if level <= 1 - q:
        return 1 - ratio if way == "remove" else mp.mpf(0)
    cut = s**2 * mp.log((level - 1 + q) / q) + mp.mpf(1) / 2
    sign = -1 if way == "remove" else 1
    without, drawn = mp.ncdf(sign * cut / s), mp.ncdf(sign * (cut - 1) / s)
    mixed = (1 - q) * without + q * drawn
    return mixed - ratio * without if way == "remove" else without - ratio * mixed


@given(st.floats(0.2, 30), st.one_of(st.floats(1e-4, 0.9999), st.just(1.0)), st.sampled_from(WAYS), st.floats(-6, 6))
@example(0.2, 1.0, "add", 1.0)  # exp(-26) beside 1
@example(0.2, 0.9999, "add", 0.35)
@settings(max_examples=sized(75, 300), deadline=None)
def test_profiles_are_within_their_bound(noise: float, rate: float, way: Direction, scale: float) -> None:
    epsilon = scale * rate * (1 + 1 / noise**2)
    with mp.workdps(60):
        exact = exactly(noise, rate, way, epsilon)
        found = mp.mpf(float(profile(noise, rate, way, np.array([epsilon]))[0]))
        assert abs(found - exact) <= PROFILE_ERROR


def by_hand(noise: float, rate: float, way: Direction, steps: int, delta: float) -> float:
    """Outcomes on a fine mesh, their losses, and every pair of them: no transform, no grid of losses."""
    x, width = np.linspace(-11 * noise, 1 + 11 * noise, 40_001, retstep=True)
    without = norm.pdf(x, 0, noise) * width
    mixed = (1 - rate) * without + rate * norm.pdf(x, 1, noise) * width
    loss = np.log1p(rate * np.expm1((2 * x - 1) / (2 * noise**2)))
    if way == "remove":
        losses, masses = loss, mixed
    elif way == "add":
        losses, masses = -loss, without
    else:
        far = x > 0.5
        rest = (1 - rate) * (1 - 2 * norm.sf(0.5 / noise))
        losses, masses = (
            np.concatenate([loss[far], -loss[far], [0]]),
            np.concatenate([mixed[far], without[far], [rest]]),
        )
    order = np.argsort(losses)
    losses, masses = losses[order], masses[order]
    above = np.append(np.cumsum(masses[::-1])[::-1], 0)
    tilted = np.append(np.cumsum((masses * np.exp(-losses))[::-1])[::-1], 0)

    def excess(epsilon: float) -> float:
        left = epsilon - (losses if steps == 2 else np.zeros(1))
        first = np.searchsorted(losses, left, side="right")
        one = above[first] - np.exp(left) * tilted[first]
        return float((masses * one).sum() if steps == 2 else one[0]) - delta

    return float(brentq(excess, 0, 60)) if excess(0) > 0 else 0.0


@pytest.mark.parametrize(
    ("noise", "rate", "delta", "sampling", "steps"),
    crossed(
        3,
        {str(one): one for one in ((1.0, 0.25, 5e-3), (2.0, 0.5, 1e-4), (0.6, 0.1, 1e-5), (1.0, 0.9, 1e-6))},
        {sampling: sampling for sampling in ("fixed", "poisson", "none")},
        {"one": 1, "two": 2},
    ),
)
def test_one_and_two_steps_are_as_by_hand(noise: float, rate: float, delta: float, sampling: str, steps: int) -> None:
    rate = 1.0 if sampling == "none" else rate
    ways: tuple[Direction, ...] = ("replace",) if sampling == "fixed" else ("remove", "add")
    exact = max(by_hand(noise, rate, way, steps, delta) for way in ways)
    count = ((Mechanism(noise, rate, sampling), steps),)
    numeric, library, renyi = prv_epsilon(count, delta), pld_epsilon(count, delta), rdp_epsilon(count, delta)
    assert numeric is not None
    assert library is not None
    assert renyi is not None
    assert exact - 1e-6 <= numeric <= exact + 2.5 * EPSILON_ERROR
    assert exact - 1e-6 <= library <= exact + 2e-3
    assert library <= renyi


def test_two_steps_of_one_direction_alone_say_less_than_is_true_of_a_fixed_cohort() -> None:
    """A pair for replacing that forgets what lies below 0: the same after one step, too small after two."""
    one = [by_hand(1.0, 0.25, way, 1, 5e-3) for way in ("remove", "replace")]
    two = [by_hand(1.0, 0.25, way, 2, 5e-3) for way in ("remove", "replace")]
    assert one[0] == pytest.approx(one[1], abs=1e-6)
    assert two[0] < two[1] - 0.01


def test_thirty_rounds_of_five_of_twenty() -> None:
    """The reference: 12.69 by Theorem 9 of Wang, Balle and Kasiviswanathan (2019)."""
    count = ((Mechanism(1.0, 0.25, "fixed"), 30),)
    assert rdp_epsilon(count, 0.1 / 20) == pytest.approx(7.552, abs=1e-3)
    assert prv_epsilon(count, 0.1 / 20) == pytest.approx(6.138, abs=1e-3)
    assert pld_epsilon(count, 0.1 / 20) == pytest.approx(6.127, abs=1e-3)
    poisson = prv_epsilon(((Mechanism(1.0, 0.25, "poisson"), 30),), 0.1 / 20)
    assert poisson == pytest.approx(5.545, abs=2e-3), "which some data reach: no bound can be below"


@pytest.mark.parametrize(("dear", "expected"), [("remove", 5.0), ("add", 5.0)])
def test_the_dearer_direction_counts(dear: Direction, expected: float) -> None:
    asked: list[tuple[Direction, float]] = []

    def bound(pairs: Pairs, coarseness: float) -> float:
        ((_, _, way),) = pairs
        asked.append((way, coarseness))
        return (expected if way == dear else 1.0) + 0.1 * (coarseness - 1)

    found = over_directions(((Mechanism(1.0, 0.5, "poisson"), 3),), bound)
    assert found == expected
    assert (("add", 1.0) in asked) == (dear == "add"), "a rough bound is enough where it is below the other"
    assert over_directions(((Mechanism(1.0, 0.5, "poisson"), 3),), lambda pairs, _: None) is None


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.05, 200), (0.6, 0.5, 3), (3.0, 0.99, 10), (0.8, 0.9, 2)])
def test_adding_costs_less_than_removing(noise: float, rate: float, steps: int) -> None:
    """Seen, not proven for compositions: the accountants look at both."""
    costs = {way: by_hand(noise, rate, way, 2, 1e-3) for way in ("remove", "add")}
    assert costs["add"] < costs["remove"]
    count = ((Mechanism(noise, rate, "poisson"), steps),)
    numeric = prv_epsilon(count, 1e-3)
    assert numeric is not None
    assert numeric > 0
