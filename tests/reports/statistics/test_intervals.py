"""The bootstrap interval: its definition by hand, its promise by simulation, and when there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sizes import sized

from autoflip_secure.reports.statistics.intervals import bootstrap_interval, mean_interval


def bca_by_hand(data: np.ndarray, level: float = 0.95, resamples: int = 40_000) -> tuple[float, float]:
    """Efron's BCa of a mean: quantiles of the bootstrap, shifted by its bias and by the jackknife's skewness."""
    generator = np.random.default_rng(0)
    means = data[generator.integers(0, data.size, (resamples, data.size))].mean(axis=1)
    below = (np.sum(means < data.mean() - 1e-12) + np.sum(means < data.mean() + 1e-12)) / 2 / resamples
    bias = special.ndtri(below)
    left_out = np.array([np.delete(data, i).mean() for i in range(data.size)])
    centred = left_out.mean() - left_out
    skew = np.sum(centred**3) / (6 * np.sum(centred**2) ** 1.5)
    z = bias + special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(means, special.ndtr(bias + z / (1 - skew * z)))
    return float(low), float(high)


@pytest.mark.parametrize("values", [[0.71, 0.75, 0.78, 0.80, 0.93], [0.2, 0.21, 0.22, 0.25, 0.4, 0.5, 0.23, 0.3]])
def test_against_the_definition(values: list[float]):
    found = bootstrap_interval(values)
    low, high = bca_by_hand(np.array(values))
    width = high - low
    assert found.low == pytest.approx(low, abs=0.05 * width)
    assert found.high == pytest.approx(high, abs=0.05 * width)


def test_skewed_values_pull_it_to_their_tail():
    values = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.9]
    found, t = bootstrap_interval(values), mean_interval(values)
    assert found.low is not None
    assert found.high is not None
    assert t.low is not None
    assert found.high - found.mean > 1.5 * (found.mean - found.low)  # t is symmetric whatever the values
    assert t.low < 0 < found.low


def test_the_same_values_give_the_same_interval_whatever_numpy_drew_before():
    np.random.seed(1)
    first = bootstrap_interval([0.1, 0.3, 0.2, 0.6])
    np.random.seed(2)
    assert bootstrap_interval([0.1, 0.3, 0.2, 0.6]) == first


@pytest.mark.parametrize(
    ("values", "reason"),
    [([0.5], "at least three seeds, here 1"), ([0.5, 0.6], "at least three seeds, here 2"), ([0.5] * 5, "same value")],
)
def test_no_interval_and_why(values: list[float], reason: str):
    found = bootstrap_interval(values)
    assert (found.low, found.high, found.n) == (None, None, len(values))
    assert reason in found.reason


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_it_is_an_interval_of_the_values_or_says_why_not(values: list[float]):
    found = bootstrap_interval(values, share=True)
    if found.low is None or found.high is None:
        assert found.reason
    else:
        assert min(values) - 1e-12 <= found.low <= found.high <= max(values) + 1e-12


def coverage(n: int, runs: int) -> tuple[float, float]:
    """Share of t and of bootstrap intervals that hold the true mean."""
    draws = np.random.default_rng(11).normal(0.0, 1.0, size=(runs, n))
    hits = np.zeros(2)
    for row in draws:
        for k, found in enumerate((mean_interval(row.tolist()), bootstrap_interval(row.tolist()))):
            assert found.low is not None
            assert found.high is not None
            hits[k] += found.low <= 0 <= found.high
    return float(hits[0] / runs), float(hits[1] / runs)


def test_coverage_by_simulation_and_why_words_rest_on_t():
    runs = sized(300, 800)
    wide = (800 / runs) ** 0.5  # three standard errors of 800 runs: 0.023 at 95 %
    t, bootstrap = coverage(5, runs)
    assert t == pytest.approx(0.95, abs=0.023 * wide)
    assert bootstrap == pytest.approx(0.84, abs=0.04 * wide)  # five seeds: far less than it promises
    t, bootstrap = coverage(30, runs)
    assert t == pytest.approx(0.95, abs=0.023 * wide)
    assert bootstrap == pytest.approx(0.94, abs=0.025 * wide)  # thirty: nearly
