"""PLD accounting: never below what is true, closer to it than PRV, and no number where rounding might matter."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import sqrt

import hypothesis.strategies as st
import mpmath as mp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant, pld_pmf
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from hypothesis import assume, example, given, settings
from scipy.optimize import brentq
from scipy.stats import norm
from sizes import every, sized

from autoflip_secure.defenses.privacy import pld
from autoflip_secure.defenses.privacy.accountants import (
    EPSILON_ERROR,
    LARGEST,
    Count,
    Mechanism,
    prv_epsilon,
    rdp_epsilon,
)
from autoflip_secure.defenses.privacy.dominating_pairs import profile
from autoflip_secure.defenses.privacy.pld import MESH, pld_epsilon


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    pld_epsilon.cache_clear()
    yield
    pld_epsilon.cache_clear()


def exact_gaussian(noise: float, steps: int, delta: float) -> float:
    """Of Gaussian mechanisms that nothing samples (Balle and Wang 2018, Theorem 8)."""
    mu = sqrt(steps) / noise

    def excess(epsilon: float) -> float:
        return float(norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))) - delta

    return float(brentq(excess, 0, 1e3)) if excess(0) > 0 else 0.0


@pytest.mark.parametrize(
    ("gaussians", "delta"),
    every(3, product([(1.0, 1), (5.0, 100), (10.0, 1000), (100.0, 10_000)], [1e-3, 1e-6, 1e-8, 1e-10, 1e-12])),
)
def test_down_to_the_smallest_delta_it_says_no_less_than_is_true(gaussians: tuple[float, int], delta: float) -> None:
    noise, steps = gaussians
    exact, found = exact_gaussian(noise, steps, delta), pld_epsilon(((Mechanism(noise, 1.0, "none"), steps),), delta)
    assert found is None or exact <= found <= exact + (1e-3 if delta > 1e-7 else 0.02)
    assert found is not None or delta < 1e-8


def added_by_the_mesh(steps: int, delta: float) -> float:
    """A step's loss moves to a point above it, by at most one mesh.

    Losses move to both sides: a step's variance grows by at most a quarter of the mesh squared, and what is exceeded
    with probability delta by that many standard deviations.
    """
    return min(steps, float(norm.isf(delta)) * sqrt(steps) / 2) * MESH


@given(
    st.floats(0.7, 10),
    st.one_of(st.floats(0.001, 0.99), st.just(1.0)),
    st.integers(1, 300),
    st.sampled_from([1e-3, 1e-5, 1e-7]),
)
@example(7.0, 1 / 512, 30, 1e-3)  # epsilon is next to nothing, and less than the mesh can show
@example(8.0, 1 / 512, 52, 1e-5)
@example(9.56, 0.00172, 256, 1e-7)
@settings(max_examples=sized(5, 12), deadline=None)
def test_anywhere_it_says_no_less_than_a_valid_lower_bound(noise: float, rate: float, steps: int, delta: float) -> None:
    """And no more than another upper bound plus what the mesh can add, see :func:`added_by_the_mesh`."""
    count: Count = ((Mechanism(noise, rate, "none" if rate == 1 else "poisson"), steps),)
    renyi, numeric, found = rdp_epsilon(count, delta), prv_epsilon(count, delta), pld_epsilon(count, delta)
    assert renyi is not None
    assume(renyi < LARGEST)
    assert found is not None
    optimistic = from_gaussian_mechanism(
        noise,
        value_discretization_interval=1e-3,
        pessimistic_estimate=False,
        use_connect_dots=False,
        sampling_prob=rate,
    ).self_compose(steps)
    assert float(optimistic.get_epsilon_for_delta(delta)) - 1e-9 <= found <= renyi + added_by_the_mesh(steps, delta)
    if numeric is not None:
        assert found <= numeric + added_by_the_mesh(steps, delta)


def test_what_the_library_says_of_poisson_cohorts() -> None:
    """Its own profile, mesh and tails, which no bound of ours went into."""
    from test_accountants import event

    for noise, rate, steps in ((1.0, 0.05, 200), (2.0, 0.5, 10), (5.0, 1.0, 20)):
        count = ((Mechanism(noise, rate, "none" if rate == 1 else "poisson"), steps),)
        theirs = PLDAccountant().compose(event(noise, rate, steps)).get_epsilon(1e-5)
        assert pld_epsilon(count, 1e-5) == pytest.approx(theirs, abs=5e-4)


def test_different_mechanisms_are_put_together() -> None:
    """Against PRV, which puts them together by itself; with cohorts of a fixed size among them."""
    for sampling in ("poisson", "fixed"):
        count = (
            (Mechanism(1.0, 0.05, sampling), 100),
            (Mechanism(2.0, 0.2, sampling), 50),
            (Mechanism(4.0, 1.0, "none"), 3),
        )
        numeric, found = prv_epsilon(count, 1e-5), pld_epsilon(count, 1e-5)
        assert numeric is not None
        assert found is not None
        assert numeric - 1.5 * EPSILON_ERROR <= found <= numeric


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.3, 40), (3.0, 0.9, 127)])
def test_what_rounding_takes_is_less_than_what_is_taken_off(
    noise: float, rate: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every mass of the composition once more with 60 digits, on a coarse mesh: deltas differ by less."""
    mesh, cells = 0.25, 40
    epsilons = np.arange(-cells, cells + 1) * mesh
    deltas = profile(noise, rate, "replace", epsilons)
    step = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(mesh, -cells, cells, deltas)
    read: list[float] = []

    class Pmf:
        size = step.size

        def self_compose(self, n: int) -> Pmf:
            return self

        def get_epsilon_for_delta(self, delta: float) -> float:
            read.append(delta)
            return 0.0

    monkeypatch.setattr(pld_pmf, "create_pmf_pessimistic_connect_dots_fixed_gap", lambda *_: Pmf())
    assert pld._one_way(1e-3, [(Mechanism(noise, rate, "fixed"), steps, "replace")], mesh / pld.MESH) is not None
    lost = 1e-3 - read[0]
    with mp.workdps(50):
        growth = mp.exp(mp.mpf(mesh))
        exact = [mp.mpf(float(d)) for d in deltas]
        last = len(exact) - 1
        masses = [1 - exact[0] + (exact[1] - exact[0]) / (growth - 1)]
        masses += [
            ((exact[i + 1] - exact[i]) - growth * (exact[i] - exact[i - 1])) / (growth - 1) for i in range(1, last)
        ]
        masses.append((exact[last] - exact[last - 1]) / (1 / growth - 1))
        masses = [max(mass, mp.mpf(0)) for mass in masses]
        whole = [mp.mpf(x) / 2**BITS for x in power([int(mass * 2**BITS) for mass in masses], steps)]
        for epsilon in (0.0, 1.0, 2.5):
            offset = -cells * steps
            true = sum(
                mass * (1 - mp.exp(epsilon - (i + offset) * mp.mpf(mesh)))
                for i, mass in enumerate(whole)
                if (i + offset) * mesh > epsilon
            )
            true += 1 - (1 - exact[last]) ** steps
            found = float(step.self_compose(steps).get_delta_for_epsilon(epsilon))
            assert true - found <= lost


BITS = 200


def power(row: list[int], exponent: int) -> list[int]:
    """Of a polynomial with coefficients in units of 2^-BITS."""
    result = [1 << BITS]
    for bit in f"{exponent:b}":
        result = product_of(result, result)
        if bit == "1":
            result = product_of(result, row)
    return result


def product_of(one: list[int], other: list[int]) -> list[int]:
    """By one product of large integers (Kronecker)."""
    width, size = (2 * BITS + 24) // 8, len(one) + len(other) - 1
    a, b = (int.from_bytes(b"".join(x.to_bytes(width, "little") for x in row), "little") for row in (one, other))
    packed = (a * b).to_bytes(width * (size + 1), "little")
    return [int.from_bytes(packed[width * i : width * (i + 1)], "little") >> BITS for i in range(size)]


def test_where_rounding_may_be_more_than_a_tenth_of_delta_there_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    count = ((Mechanism(10.0, 0.1, "poisson"), 1000),)
    assert pld_epsilon(count, 1e-6) is not None
    assert pld_epsilon(count, 1e-11) is None


def test_without_the_library_there_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pld, "installed", lambda: False)
    assert pld_epsilon(((Mechanism(1.0, 0.5, "poisson"), 1),), 1e-5) is None
    assert pld_epsilon((), 1e-5) is None


def test_what_says_nothing_costs_nothing_and_what_says_everything_has_no_number() -> None:
    assert pld_epsilon((), 1e-5) == 0.0
    assert pld_epsilon(((Mechanism(0.05, 1.0, "none"), 1),), 1e-5) is None
