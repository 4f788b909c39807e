"""Rounding in numerical composition: each bound against numbers of many digits, honest transforms and hostile ones."""

from __future__ import annotations

from math import ceil, log2

import hypothesis.strategies as st
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from opacus.accountants import PRVAccountant
from scipy.fft import irfft, rfft
from sizes import crossed, every, sized

from autoflip_secure.defenses.privacy import prv
from autoflip_secure.defenses.privacy.accountants import DELTA_ERROR, EPSILON_ERROR, Mechanism, prv_epsilon
from autoflip_secure.defenses.privacy.dominating_pairs import Direction, cdf
from autoflip_secure.defenses.privacy.prv import (
    SECOND_ORDER,
    UNIT,
    Composition,
    Gaussian,
    Grid,
    compose,
    losses_of,
    mean,
)

BITS = 256  # after the point, in exact numbers
mechanisms = st.builds(
    Gaussian,
    st.floats(0.3, 30),
    st.one_of(st.floats(1e-3, 0.999), st.just(1.0)),
    st.integers(1, 10).map(lambda x: 2**x - 1),  # all bits set: the most products
    st.sampled_from(["remove", "add", "replace"]),
)
grids = st.builds(Grid, st.floats(-8, -1).map(lambda x: 2.0**x), st.sampled_from([64, 256]))


def whole(x: float) -> int:
    """In units of 2^-BITS, rounded down."""
    numerator, denominator = float(x).as_integer_ratio()
    return (numerator << BITS) // denominator


def product(one: list[int], other: list[int]) -> list[int]:
    """Circular convolution, by one product of large integers (Kronecker)."""
    n = len(one)
    width = ceil((2 * BITS + 2 + log2(n)) / 8)
    a, b = (int.from_bytes(b"".join(x.to_bytes(width, "little") for x in row), "little") for row in (one, other))
    packed = (a * b).to_bytes(2 * n * width, "little")
    full = [int.from_bytes(packed[i * width : (i + 1) * width], "little") for i in range(2 * n)]
    return [(low + high) >> BITS for low, high in zip(full[:n], full[n:], strict=True)]


def exactly(parts: list[Gaussian], grid: Grid) -> list[int]:
    """The composition of the same masses, to about 70 digits."""
    middle = grid.size // 2 - 1
    result = [1 << BITS] + [0] * (grid.size - 1)
    for part in parts:
        one, times = [whole(x) for x in np.roll(losses_of(part, grid).masses, -middle)], part.steps
        while times:
            if times % 2:
                result = product(result, one)
            one, times = product(one, one), times // 2
    return result[-middle:] + result[:-middle]


def off_by(composition: Composition, exact: list[int]) -> float:
    """The largest error of a sum of masses with weights in [0, 1]."""
    errors = [(whole(x) - y) / 2**BITS for x, y in zip(composition.masses, exact, strict=True)]
    return max(sum(e for e in errors if e > 0), -sum(e for e in errors if e < 0))


def hostile(monkeypatch: pytest.MonkeyPatch, grid: Grid, seed: int) -> None:
    """Transforms that are off by all that the theorem allows, in any direction."""
    rng, rho = np.random.default_rng(seed), grid.transform_error

    def forward(x: np.ndarray) -> np.ndarray:
        phases = np.exp(2j * np.pi * rng.random(len(x) // 2 + 1))
        phases[[0, -1]] = rng.choice([-1, 1], 2)  # the sum and the alternating sum of real numbers are real
        return np.asarray(rfft(x) + rho * phases)

    def back(x: np.ndarray, n: int) -> np.ndarray:
        honest, way = irfft(x, n), rng.choice([-1, 1], n)
        return np.asarray(honest + rho * np.sqrt(2 * (honest**2).sum() / n) * way)

    monkeypatch.setattr(prv, "rfft", forward)
    monkeypatch.setattr(prv, "irfft", back)


@given(st.lists(mechanisms, min_size=1, max_size=2), grids, st.integers(0, 2**32))
@settings(max_examples=sized(7, 30), deadline=None)
def test_no_sum_of_masses_is_off_by_more_than_the_bound(parts: list[Gaussian], grid: Grid, seed: int) -> None:
    exact = exactly(parts, grid)
    honest = compose(parts, grid)
    assert off_by(honest, exact) <= honest.delta_error
    with pytest.MonkeyPatch.context() as patch:
        hostile(patch, grid, seed)
        attacked = compose(parts, grid)
        assert off_by(attacked, exact) <= attacked.delta_error


@pytest.mark.parametrize("part", [Gaussian(10.0, 1.0, 1023), Gaussian(1.0, 0.05, 500), Gaussian(2.0, 1.0, 15)])
def test_hostile_transforms_need_the_bound(part: Gaussian, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the transforms' share it would be too small, and all of it is not ten times what they do."""
    grid = Grid(1 / 16, 256)
    exact = exactly([part], grid)
    hostile(monkeypatch, grid, 0)
    attacked = compose([part], grid)
    distribution_functions = SECOND_ORDER * 2 * part.steps * losses_of(part, grid).cdf_error
    assert distribution_functions < off_by(attacked, exact)
    assert attacked.delta_error < 10 * off_by(attacked, exact)


@pytest.mark.parametrize("size", [64, 512])
def test_transforms_keep_the_theorem(size: int) -> None:
    rng = np.random.default_rng(size)
    with mp.workprec(160):
        roots = [mp.expjpi(mp.mpf(-2 * k) / size) for k in range(size)]
        cosines, sines = ([int(mp.floor(mp.ldexp(f(root), 120))) for root in roots] for f in (mp.re, mp.im))
    for row in (rng.random(size), rng.random(size) ** 30, np.eye(size)[rng.integers(size)]):
        masses = row / row.sum()
        found, units = rfft(masses), [whole(x) for x in masses]
        for k in range(0, size // 2 + 1, 7):
            real, imaginary = (
                sum(x * table[j * k % size] for j, x in enumerate(units)) / 2 ** (BITS + 120)
                for table in (cosines, sines)
            )
            assert abs(complex(real, imaginary) - found[k]) <= Grid(1.0, size).transform_error


def true_cdf(mechanism: Gaussian, loss: mp.mpf) -> mp.mpf:
    noise, rate = mp.mpf(mechanism.noise_multiplier), mp.mpf(mechanism.rate)
    adding = mechanism.direction == "add" or (mechanism.direction == "replace" and loss < 0)
    above = mp.exp(-loss if adding else loss) - (1 - rate)
    if above <= 0:
        return mp.mpf(1 if adding else 0)
    z = mp.log(above / rate)
    if adding:
        return mp.ncdf(-noise * z - 1 / (2 * noise))
    low, high = (mp.ncdf(noise * z + way / (2 * noise)) for way in (1, -1))
    return (1 - rate) * low + rate * high


@given(mechanisms, st.lists(st.floats(-4, 4), min_size=10, max_size=10))
@settings(max_examples=sized(10, 40), deadline=None)
def test_distribution_functions_are_within_their_bound(mechanism: Gaussian, where: list[float]) -> None:
    """At a loss that is off by rounding: so close to the least loss there is they are steep."""
    width = mechanism.rate / mechanism.noise_multiplier
    losses = np.array(where) * width
    bound = losses_of(mechanism, Grid(1.0, 8)).cdf_error
    with mp.workdps(40):
        for loss, found in zip(losses, cdf(*mechanism[:2], mechanism.direction, losses), strict=True):
            moved = 10 * UNIT * (1 + abs(loss))
            low, high = (true_cdf(mechanism, mp.mpf(float(loss)) + way * moved) for way in (-1, 1))
            assert low - bound <= found <= high + bound


@pytest.mark.parametrize(
    ("direction", "noise", "rate"),
    crossed(
        3,
        {direction: direction for direction in ("remove", "add", "replace")},
        {str(noise): noise for noise in (0.3, 1.0, 20.0)},
        {str(rate): rate for rate in (0.001, 0.4, 0.999, 1.0)},
    ),
)
def test_means_are_within_their_bound(noise: float, rate: float, direction: Direction) -> None:
    mechanism, grid = Gaussian(noise, rate, 1, direction), Grid(2.0**-6, 2**13)
    with mp.workdps(30):
        q, sigma = mp.mpf(rate), mp.mpf(noise)

        def weighted(x: mp.mpf) -> mp.mpf:
            loss = mp.log(1 - q + q * mp.exp((2 * x - 1) / (2 * sigma**2)))
            without = mp.npdf(x, 0, sigma)
            mixed = (1 - q) * without + q * mp.npdf(x, 1, sigma)
            return loss * {"remove": mixed, "add": -without, "replace": mixed - without}[direction]

        start = mp.mpf(1) / 2 if direction == "replace" else -12 * sigma
        exact = mp.quad(weighted, [start, *(k * sigma for k in range(-12, 17, 2) if k * sigma > start)])
    found, error = mean(mechanism, grid)
    assert abs(found - exact) <= error
    coarse = Grid(0.5, 256)
    one = losses_of(mechanism, coarse)
    assert (one.masses * (coarse.points + one.shift)).sum() == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(
    "parts", every(2, [[(1.0, 0.05, 200)], [(0.6, 0.01, 1000)], [(1.0, 0.05, 100), (2.0, 0.2, 51), (4.0, 1.0, 3)]])
)
def test_opacus_finds_the_same(parts: list[tuple[float, float, int]]) -> None:
    accountant = PRVAccountant()
    accountant.history = parts
    with np.errstate(all="ignore"):
        theirs = accountant.get_epsilon(1e-5, eps_error=EPSILON_ERROR, delta_error=DELTA_ERROR * 1e-5)
    count = tuple((Mechanism(noise, rate, "none" if rate == 1 else "poisson"), steps) for noise, rate, steps in parts)
    assert prv_epsilon(count, 1e-5) == pytest.approx(theirs, abs=1e-4)
