"""Epsilon by RDP and PRV: known values, a second library, and what must grow with what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from math import comb, exp, log, log1p, sqrt
from pathlib import Path

import dp_accounting as dp
import hypothesis.strategies as st
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from dp_accounting.rdp import RdpAccountant
from hypothesis import assume, given, settings
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm
from sizes import every, sized

from autoflip_secure.defenses.privacy import accountants, prv
from autoflip_secure.defenses.privacy.accountants import (
    EPSILON_ERROR,
    LARGEST,
    ORDERS,
    WHOLE,
    Count,
    Mechanism,
    counted,
    epsilon_of,
    prv_epsilon,
    rdp_curve,
    rdp_epsilon,
)
from autoflip_secure.defenses.privacy.calibration import noise_multiplier_for
from autoflip_secure.defenses.privacy.subsampled_rdp import fixed_cohort_rdp
from autoflip_secure.errors import InputError
from autoflip_secure.records.privacy import Release

DELTA = 1e-5
# the fractional series of the other library does not converge at some orders: it leaves them out, with a log line


def event(noise: float, rate: float, steps: int) -> dp.DpEvent:
    one: dp.DpEvent = dp.GaussianDpEvent(noise)
    return dp.SelfComposedDpEvent(one if rate == 1 else dp.PoissonSampledDpEvent(rate, one), steps)


def at_least(count: Count, delta: float) -> float:
    """A lower bound on epsilon, at most 0.02 below: privacy losses rounded down on a mesh (optimistic estimate)."""
    whole, mesh = None, min(1e-3, 0.02 / sum(steps for _, steps in count))
    for mechanism, steps in count:
        one = from_gaussian_mechanism(
            mechanism.noise_multiplier,
            value_discretization_interval=mesh,
            pessimistic_estimate=False,
            use_connect_dots=False,
            sampling_prob=mechanism.rate,
        ).self_compose(steps)
        whole = one if whole is None else whole.compose(one)
    assert whole is not None
    return float(whole.get_epsilon_for_delta(delta))


def test_values_that_are_known() -> None:
    count = ((Mechanism(1.0, 0.05, "poisson"), 200),)
    assert rdp_epsilon(count, DELTA) == pytest.approx(5.3676, abs=2e-4)
    assert prv_epsilon(count, DELTA) == pytest.approx(4.7762, abs=2e-4)
    assert RdpAccountant().compose(event(1.0, 0.05, 200)).get_epsilon(DELTA) == pytest.approx(5.3679, abs=2e-4)
    assert PLDAccountant().compose(event(1.0, 0.05, 200)).get_epsilon(DELTA) == pytest.approx(4.7659, abs=2e-4)
    assert at_least(count, DELTA) == pytest.approx(4.766, abs=0.02)


def test_the_central_limit_would_say_less_than_is_true() -> None:
    """Why it is not offered."""
    from opacus.accountants.analysis.gdp import compute_eps_poisson

    central_limit = compute_eps_poisson(steps=200, noise_multiplier=1.0, sample_rate=0.05, delta=DELTA)
    assert central_limit == pytest.approx(4.0098, abs=2e-4)
    assert central_limit < at_least(((Mechanism(1.0, 0.05, "poisson"), 200),), DELTA)


QUICK = ((0.8, 0.1, 50), (1.0, 0.3, 1), (2.0, 0.3, 50))  # the other library's grids take seconds
SETTINGS = [s for s in product((0.8, 1.0, 2.0), (0.01, 0.1, 0.3), (1, 50, 300)) if s not in QUICK]


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [
        *QUICK, (5.0, 1.0, 20), (20.0, 1.0, 300), (0.7, 0.002, 5000),
        *(pytest.param(*setting, marks=pytest.mark.slow) for setting in SETTINGS),
    ],
)  # fmt: skip
def test_a_second_library_agrees(noise: float, rate: float, steps: int) -> None:
    mechanism = Mechanism(noise, rate, "none" if rate == 1 else "poisson")
    ours, theirs = rdp_epsilon(((mechanism, steps),), DELTA), RdpAccountant().compose(event(noise, rate, steps))
    assert ours is not None
    if (
        ours < 10
    ):  # above, the best orders are ones that the other library leaves out, since its series is too slow there
        assert ours == pytest.approx(theirs.get_epsilon(DELTA), rel=5e-3)
    assert ours <= theirs.get_epsilon(DELTA) * 1.005
    exact = PLDAccountant().compose(event(noise, rate, steps)).get_epsilon(DELTA)
    assert ours >= exact * (1 - 1e-4)
    prv = prv_epsilon(((mechanism, steps),), DELTA)
    if ours > LARGEST:
        assert prv is None
    else:
        assert prv is not None
        assert exact - 1e-3 <= prv <= exact + 2.5 * EPSILON_ERROR + 0.005 * exact


noises, rates = st.floats(0.7, 20), st.one_of(st.floats(0.001, 0.99), st.just(1.0))
deltas = st.sampled_from([1e-3, 1e-5, 1e-7])


def mechanism_of(noise: float, rate: float) -> Mechanism:
    return Mechanism(noise, rate, "none" if rate == 1 else "poisson")


@given(noises, rates, st.integers(1, 400), deltas)
@settings(max_examples=sized(5, 20), deadline=None)
def test_anywhere_no_accountant_says_less_than_a_valid_lower_bound(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    count = ((mechanism_of(noise, rate), steps),)
    ours, prv = rdp_epsilon(count, delta), prv_epsilon(count, delta)
    assert ours is not None
    assume(ours < 60)  # its mesh grows with epsilon
    lower = at_least(count, delta)
    assert ours >= lower - 1e-6
    if prv is not None:
        assert lower - 1e-6 <= prv <= ours + EPSILON_ERROR


@given(st.lists(st.tuples(noises, rates, st.integers(1, 200)), min_size=1, max_size=3), deltas)
@settings(max_examples=sized(6, 25), deadline=None)
def test_anywhere_the_second_library_agrees(parts: list[tuple[float, float, int]], delta: float) -> None:
    """Whole orders alone, where neither library needs a series, give the same number."""
    count = tuple((mechanism_of(noise, rate), steps) for noise, rate, steps in parts)
    theirs = RdpAccountant(orders=list(WHOLE))
    for noise, rate, steps in parts:
        theirs.compose(event(noise, rate, steps))
    expected, whole, all_orders = theirs.get_epsilon(delta), rdp_epsilon(count, delta, WHOLE), rdp_epsilon(count, delta)
    assert all_orders is not None
    assert whole is not None
    if expected > 0:  # it calls 0 what a bound on the total variation below delta covers; we do not
        assert whole == pytest.approx(expected, rel=1e-6)
    assert all_orders <= whole + 1e-9


@given(noises, st.floats(0.01, 0.99), st.integers(1, 300), deltas, st.sampled_from(["poisson", "fixed"]))
@settings(max_examples=sized(10, 100), deadline=None)
def test_orders_next_to_the_best_whole_one_are_enough(
    noise: float, rate: float, steps: int, delta: float, sampling: str
) -> None:
    mechanism = Mechanism(noise, rate, sampling)
    found, all_orders = rdp_epsilon(((mechanism, steps),), delta), epsilon_of(steps * rdp_curve(mechanism), delta)
    assert found is not None
    assert all_orders is not None
    assert all_orders <= found <= 1.001 * all_orders + 1e-9


@given(noises, st.floats(0.01, 0.99), st.integers(1, 300), deltas)
@settings(max_examples=sized(5, 20), deadline=None)
def test_anywhere_fixed_cohorts_lie_between_one_direction_alone_and_the_sharpest_theorem(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    """Poisson cohorts of the same noise are what one sees whose client is replaced by what all others are."""
    drawn, orders = max(1, round(1000 * rate)), WHOLE[:15]  # the other library is slow at high ones
    sharper = RdpAccountant(orders=list(orders), neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    one = dp.SampledWithoutReplacementDpEvent(1000, drawn, dp.GaussianDpEvent(noise))
    sharper.compose(dp.SelfComposedDpEvent(one, steps))
    ours, least = (
        rdp_epsilon(((Mechanism(noise, drawn / 1000, sampling), steps),), delta, orders)
        for sampling in ("fixed", "poisson")
    )
    plain = rdp_epsilon(((Mechanism(noise, 1.0, "none"), steps),), delta, orders)
    assert ours is not None
    assert plain is not None
    assert least is not None
    most = min(sharper.get_epsilon(delta) or plain, plain)  # it calls 0 what a bound on the total variation covers
    assert least * (1 - 1e-9) <= ours <= most * (1 + 1e-8) + 1e-8


def test_the_lower_bound_would_notice_an_accountant_that_forgets_a_step_in_ten() -> None:
    count, fewer = (((Mechanism(1.0, 0.1, "poisson"), steps),) for steps in (200, 180))
    prv = prv_epsilon(fewer, DELTA)
    assert prv is not None
    assert prv < at_least(count, DELTA) - 0.1


@pytest.mark.parametrize(("noise", "rate"), list(product((0.6, 1.0, 3.0), (0.01, 0.3, 0.9))))
def test_the_curve_is_a_renyi_divergence(noise: float, rate: float) -> None:
    """It grows with the order, and (order - 1) times it is convex: what a series cut too early would break."""
    orders, curve = np.array(ORDERS), rdp_curve(Mechanism(noise, rate, "poisson"))
    fine = np.isfinite(curve)
    orders, curve = orders[fine], curve[fine]
    assert (np.diff(curve) >= -1e-9 * curve[1:]).all()
    slopes = np.diff((orders - 1) * curve) / np.diff(orders)
    assert (np.diff(slopes) >= -1e-6 * (1 + np.abs(slopes[1:]))).all()


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


@pytest.mark.parametrize(("noise", "rate"), [(0.6, 0.001), (1.0, 0.01), (10.0, 0.1)])
@pytest.mark.parametrize("delta", every(2, [1e-5, 1e-6, 3e-8]))
def test_ten_thousand_steps_have_a_number_at_every_usual_delta(noise: float, rate: float, delta: float) -> None:
    count = ((Mechanism(noise, rate, "poisson"), 10_000),)
    renyi, tighter = rdp_epsilon(count, delta), prv_epsilon(count, delta)
    assert renyi is not None
    assert tighter is not None
    assert tighter < renyi


def test_different_mechanisms_compose() -> None:
    count = (
        (Mechanism(1.0, 0.05, "poisson"), 100),
        (Mechanism(4.0, 1.0, "none"), 3),
        (Mechanism(2.0, 0.2, "poisson"), 50),
    )
    accountant, exact = RdpAccountant(), PLDAccountant()
    for mechanism, steps in count:
        accountant.compose(event(mechanism.noise_multiplier, mechanism.rate, steps))
        exact.compose(event(mechanism.noise_multiplier, mechanism.rate, steps))
    assert rdp_epsilon(count, DELTA) == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-3)
    prv, pld = prv_epsilon(count, DELTA), exact.get_epsilon(DELTA)
    assert prv is not None
    assert pld - 1e-3 <= prv <= pld + 0.05


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
