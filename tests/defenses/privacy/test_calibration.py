"""What epsilon grows with, the divergences behind it, and noise calibrated to a target."""

from __future__ import annotations

import re
from itertools import product
from math import comb, exp, log, log1p
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.integrate import quad
from scipy.stats import norm
from sizes import every, sized

from autoflip_secure.defenses.privacy.accountants import (
    ORDERS,
    WHOLE,
    Mechanism,
    counted,
    prv_epsilon,
    rdp_curve,
    rdp_epsilon,
)
from autoflip_secure.defenses.privacy.calibration import noise_multiplier_for
from autoflip_secure.defenses.privacy.subsampled_rdp import fixed_cohort_rdp
from autoflip_secure.errors import InputError
from autoflip_secure.records.privacy import Release

DELTA = 1e-5


@pytest.mark.parametrize(("noise", "rate"), list(product((0.6, 1.0, 3.0), (0.01, 0.3, 0.9))))
def test_the_curve_is_a_renyi_divergence(noise: float, rate: float) -> None:
    """It grows with the order, and (order - 1) times it is convex: what a series cut too early would break."""
    orders, curve = np.array(ORDERS), rdp_curve(Mechanism(noise, rate, "poisson"))
    fine = np.isfinite(curve)
    orders, curve = orders[fine], curve[fine]
    assert (np.diff(curve) >= -1e-9 * curve[1:]).all()
    slopes = np.diff((orders - 1) * curve) / np.diff(orders)
    assert (np.diff(slopes) >= -1e-6 * (1 + np.abs(slopes[1:]))).all()


@given(
    st.floats(0.6, 10),
    st.floats(0.001, 1),
    st.integers(1, 400),
    st.sampled_from(["poisson", "fixed"]),
    st.floats(1.05, 3),
)
@settings(max_examples=sized(10, 40), deadline=None)
def test_more_steps_more_samples_less_noise_cost_more(
    noise: float, rate: float, steps: int, sampling: str, factor: float
) -> None:
    def epsilon(noise: float, rate: float, steps: int, delta: float = 1e-4) -> float:
        found = rdp_epsilon(((Mechanism(noise, min(rate, 1.0), sampling), steps),), delta, WHOLE)
        assert found is not None
        return found

    base = epsilon(noise, rate, steps)
    slack = 1e-9
    assert epsilon(noise, rate, 2 * steps) >= base - slack
    assert epsilon(noise * factor, rate, steps) <= base + slack
    assert epsilon(noise, rate * factor, steps) >= base - slack
    assert epsilon(noise, rate, steps, 1e-6) >= base - slack
    assert epsilon(noise, 1.0, steps) >= base - slack


@pytest.mark.parametrize(
    ("rate", "noise", "order"), every(2, product((0.001, 0.05, 0.3, 0.9), (0.8, 2.0, 6.0), (2, 3, 7)))
)
def test_cohorts_of_a_fixed_size_have_the_divergence_of_their_pair(rate: float, noise: float, order: int) -> None:
    """Integrated, and never above Theorem 9 of Wang, Balle and Kasiviswanathan (2019), which is what was printed."""

    def eps(j: int) -> float:
        return j / (2 * noise**2)

    total = 1 + rate**2 * comb(order, 2) * min(4 * (exp(eps(2)) - 1), 2 * exp(eps(2)))
    total += sum(2 * rate**j * comb(order, j) * exp((j - 1) * eps(j)) for j in range(3, order + 1))
    theorem_9 = min(log(total) / (order - 1), eps(order))

    def excess(x: float) -> float:
        """What a point beyond 1/2 and its copy add to 1."""
        ratio = 1 - rate + rate * exp((2 * x - 1) / (2 * noise**2))
        without = float(norm.pdf(x, 0, noise))
        return without * (ratio**order - ratio) + without * (ratio ** (1 - order) - 1)

    exact = log1p(quad(excess, 0.5, 1 + order + 12 * noise, limit=200, epsabs=1e-13)[0]) / (order - 1)
    found = fixed_cohort_rdp(rate, noise, (float(order),))[0]
    assert exact * (1 - 1e-9) - 1e-12 <= found <= theorem_9 * (1 + 1e-9)
    assert found <= 1.005 * exact + 1e-9, "one of the integrals is a sum of upper bounds"


def release(**changes: object) -> Release:
    return Release.model_validate(
        {
            "name": "updates", "observer": "public", "client": None, "first_round": 1, "last_round": 9,
            "mechanism": "gaussian", "relation": "add or remove one client", "sampling": "poisson", "rate": 0.1,
            "population": 100, "steps": 9, "noise_multiplier": 1.0, "reason": "", "post_processing": [], **changes,
        }
    )  # fmt: skip


def test_without_noise_there_is_no_number() -> None:
    assert counted([release(), release(noise_multiplier=0.0)]) is None
    assert counted([release(), release(mechanism="none", noise_multiplier=1.0)]) is None
    assert rdp_epsilon((), DELTA) == prv_epsilon((), DELTA) == 0.0
    assert counted([release(steps=0)]) == ()


def test_equal_releases_add_up() -> None:
    assert counted([release(steps=4), release(steps=5)]) == counted([release(steps=9)])


def test_the_central_limit_accountant_is_not_used() -> None:
    folder = Path(__file__).parents[3] / "defenses"
    assert not [p.name for p in folder.rglob("*.py") if re.search(r"import .*gdp|GaussianAccountant", p.read_text())]


def test_what_is_reported_looks_at_every_order_that_noise_was_chosen_with() -> None:
    assert set(WHOLE) <= set(ORDERS)
    assert list(ORDERS) == sorted(ORDERS)
    count = ((Mechanism(9.0, 0.25, "poisson"), 1),)
    reported, chosen = rdp_epsilon(count, 1e-7), rdp_epsilon(count, 1e-7, WHOLE)
    assert reported is not None
    assert chosen is not None
    assert reported <= chosen


@given(st.floats(0.2, 20), st.floats(0.01, 1), st.integers(1, 200))
@settings(max_examples=sized(6, 25), deadline=None)
def test_calibrated_noise_keeps_the_target_and_wastes_little(target: float, rate: float, steps: int) -> None:
    def epsilon(noise: float) -> float | None:
        return rdp_epsilon(((Mechanism(noise, rate, "poisson"), steps),), 1e-4, WHOLE)

    noise = noise_multiplier_for(target, epsilon)
    found, less = epsilon(noise), epsilon(noise / 1.01)
    assert found is not None
    assert found <= target
    assert noise <= 0.021 or less is None or less > target


# Opacus tries little noise on its way, where its own orders end
@pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha")
def test_calibration_agrees_with_opacus() -> None:
    from opacus.accountants.utils import get_noise_multiplier

    def epsilon(noise: float) -> float | None:
        return rdp_epsilon(((Mechanism(noise, 0.05, "poisson"), 200),), DELTA)

    theirs = get_noise_multiplier(
        target_epsilon=4.0, target_delta=DELTA, sample_rate=0.05, steps=200, accountant="rdp", epsilon_tolerance=1e-3
    )
    assert noise_multiplier_for(4.0, epsilon) == pytest.approx(theirs, rel=5e-3)


def test_a_target_out_of_reach_says_what_is_in_reach() -> None:
    def epsilon(noise: float) -> float | None:
        return 0.5 + 1 / noise

    with pytest.raises(InputError, match=r"target_epsilon = 0\.1 cannot be reached.*epsilon 0\.5"):
        noise_multiplier_for(0.1, epsilon)
    with pytest.raises(InputError, match="without bound"):
        noise_multiplier_for(1.0, lambda noise: None)
