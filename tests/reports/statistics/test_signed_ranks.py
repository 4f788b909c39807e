"""Wilcoxon's signed ranks against every sign pattern written out, and against scipy."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from autoflip_secure.reports.statistics.signed_ranks import signed_rank_p


def by_enumeration(differences: list[float]) -> float | None:
    """Oracle: two-sided p over all 2^n sign patterns of the mean ranks."""
    data = [d for d in differences if d != 0]
    if not data:
        return None
    sizes = sorted(abs(d) for d in data)
    ranks = [np.mean([i + 1 for i, s in enumerate(sizes) if s == abs(d)]) for d in data]
    seen = sum(r for r, d in zip(ranks, data, strict=True) if d > 0)
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in product([0, 1], repeat=len(data))]
    low, high = (np.mean([f(s) for s in sums]) for f in (lambda s: s <= seen, lambda s: s >= seen))
    return min(1.0, 2 * float(min(low, high)))


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_against_every_sign_pattern_with_ties_and_zeros(numbers: list[int]):
    differences = [n / 359 for n in numbers]
    expected = by_enumeration(differences)
    found = signed_rank_p(differences)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("n", [5, 13, 40])
def test_against_scipy_without_ties(n: int):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    assert signed_rank_p(differences.tolist()) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_large_samples_fall_back_to_the_normal_approximation():
    differences = np.random.default_rng(1).normal(0.2, 1, 80)
    assert signed_rank_p(differences.tolist()) == pytest.approx(stats.wilcoxon(differences, method="approx").pvalue)


def test_five_seeds_can_prove_nothing_even_when_they_tie():
    assert signed_rank_p([0.02, 0.02, 0.02, 0.02, 0.03]) == pytest.approx(0.0625)
