"""Epsilon by RDP and PRV: known values, lower bounds, a second library, and how mechanisms compose."""

from __future__ import annotations

import functools
from itertools import product

import dp_accounting as dp
import hypothesis.strategies as st
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from dp_accounting.rdp import RdpAccountant
from hypothesis import assume, given, settings
from sizes import sized

from autoflip_secure.defenses.privacy.accountants import (
    EPSILON_ERROR,
    LARGEST,
    WHOLE,
    Count,
    Mechanism,
    epsilon_of,
    prv_epsilon,
    rdp_curve,
    rdp_epsilon,
)

DELTA = 1e-5

# the fractional series of the other library does not converge at some orders: it leaves them out, with a log line


def event(noise: float, rate: float, steps: int) -> dp.DpEvent:
    one: dp.DpEvent = dp.GaussianDpEvent(noise)
    return dp.SelfComposedDpEvent(one if rate == 1 else dp.PoissonSampledDpEvent(rate, one), steps)


@functools.cache
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


QUICK = (0.8, 0.1, 50)  # the other library's grids take seconds
SETTINGS = [s for s in product((0.8, 1.0, 2.0), (0.01, 0.1, 0.3), (1, 50, 300)) if s != QUICK]


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [
        QUICK, (5.0, 1.0, 20), (20.0, 1.0, 300), (0.7, 0.002, 5000),
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
