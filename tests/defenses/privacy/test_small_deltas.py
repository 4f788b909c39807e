"""Epsilon at small deltas: never less than the exact value, however much is lost to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import sqrt

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm
from sizes import crossed, every

from autoflip_secure.defenses.privacy import accountants, prv
from autoflip_secure.defenses.privacy.accountants import (
    EPSILON_ERROR,
    Mechanism,
    prv_epsilon,
    rdp_epsilon,
)


def exact_gaussian(noise: float, steps: int, delta: float) -> float:
    """Epsilon of Gaussian mechanisms that nothing samples (Balle and Wang 2018, Theorem 8)."""
    mu = sqrt(steps) / noise

    def excess(epsilon: float) -> float:
        return float(norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))) - delta

    return float(brentq(excess, 0, 1e3)) if excess(0) > 0 else 0.0


SMALL_DELTAS = list(
    product([(1.0, 1), (5.0, 100), (10.0, 1000), (100.0, 10_000)], [1e-3, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14])
)


@pytest.mark.parametrize(("gaussians", "delta"), every(5, SMALL_DELTAS))
def test_down_to_the_smallest_delta_no_accountant_says_less_than_is_true(
    gaussians: tuple[float, int], delta: float
) -> None:
    noise, steps = gaussians
    exact, count = exact_gaussian(noise, steps, delta), ((Mechanism(noise, 1.0, "none"), steps),)
    renyi, prv = rdp_epsilon(count, delta), prv_epsilon(count, delta)
    assert renyi is not None
    assert renyi >= exact
    assert prv is None or exact <= prv <= exact + 2.5 * EPSILON_ERROR
    assert prv is not None or delta < 1e-11 * steps


WORST = (((Mechanism(10.0, 1.0, "none"), 1000),), 5e-10)  # where what rounding may do is a tenth of delta, nearly


@pytest.mark.parametrize("forgotten", [False, True])
def test_rounding_at_its_worst_makes_prv_too_small_only_if_its_bound_is_forgotten(
    forgotten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masses as far from the true ones as :mod:`.prv` proves they can be, all of it where epsilon is read."""
    count, delta = WORST
    exact, honest = exact_gaussian(10.0, 1000, delta), prv.compose

    def worst(mechanisms: Sequence[prv.Gaussian], grid: prv.Grid) -> prv.Composition:
        found = honest(mechanisms, grid)
        weights = -np.expm1(np.minimum(exact - found.points, 0))
        masses = found.masses - weights * found.delta_error / (weights**2).sum()
        return found._replace(masses=masses, delta_error=0.0 if forgotten else found.delta_error)

    monkeypatch.setattr(prv, "compose", worst)
    prv_epsilon.cache_clear()
    epsilon = prv_epsilon(count, delta)
    prv_epsilon.cache_clear()
    assert epsilon is not None
    assert (epsilon < exact - EPSILON_ERROR) if forgotten else (exact <= epsilon)


def test_where_rounding_may_be_more_than_a_tenth_of_delta_prv_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    count, delta = WORST
    assert prv_epsilon(count, delta) is not None
    assert prv_epsilon(count, delta / 2) is None
    monkeypatch.setattr(accountants, "ROUNDING_ERROR", 1.0)
    prv_epsilon.cache_clear()
    loose = prv_epsilon(count, delta / 2)
    prv_epsilon.cache_clear()
    assert loose is not None
    assert loose >= exact_gaussian(10.0, 1000, delta / 2)


@pytest.mark.parametrize(
    ("noise", "rate", "delta"),
    crossed(
        3,
        {str(noise): (noise, rate) for noise, rate in ((0.6, 0.001), (1.0, 0.01), (10.0, 0.1))},
        {str(delta): delta for delta in (1e-5, 1e-6, 3e-8)},
    ),
)
def test_ten_thousand_steps_have_a_number_at_every_usual_delta(noise: float, rate: float, delta: float) -> None:
    count = ((Mechanism(noise, rate, "poisson"), 10_000),)
    renyi, tighter = rdp_epsilon(count, delta), prv_epsilon(count, delta)
    assert renyi is not None
    assert tighter is not None
    assert tighter < renyi
