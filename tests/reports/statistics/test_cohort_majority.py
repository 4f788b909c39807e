"""Probability of a malicious majority: by counting cohorts, and against scipy's distributions."""

from itertools import combinations, product
from math import comb

import pytest
from scipy import stats

from autoflip_secure.reports.statistics.cohort_majority import majority_probability


@pytest.mark.parametrize("malicious", range(8))
@pytest.mark.parametrize("cohort", [1, 2, 3, 6, 7])
def test_every_cohort_is_counted(malicious: int, cohort: int):
    cohorts = list(combinations(range(7), cohort))
    bad = sum(2 * sum(k < malicious for k in one) >= cohort for one in cohorts)
    assert majority_probability(7, malicious, cohort) == pytest.approx(bad / comb(7, cohort), abs=1e-12)


@pytest.mark.parametrize("malicious", range(7))
@pytest.mark.parametrize("cohort", [1, 3, 6])
def test_every_poisson_cohort_is_counted(malicious: int, cohort: int):
    chance, total = cohort / 6, 0.0
    for came in product((False, True), repeat=6):
        lies = sum(came[:malicious])
        if any(came) and 2 * lies >= sum(came):
            total += chance ** sum(came) * (1 - chance) ** (6 - sum(came))
    assert majority_probability(6, malicious, cohort, poisson=True) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(("clients", "malicious", "cohort"), [(20, 4, 5), (20, 8, 5), (1000, 200, 100), (50, 5, 6)])
def test_against_scipy(clients: int, malicious: int, cohort: int):
    half = -(-cohort // 2)
    tail = sum(stats.hypergeom.pmf(x, clients, malicious, cohort) for x in range(half, cohort + 1))
    assert majority_probability(clients, malicious, cohort) == pytest.approx(tail, rel=1e-9)
    share = cohort / clients
    apart = sum(
        stats.binom.pmf(x, malicious, share) * stats.binom.cdf(x, clients - malicious, share)
        for x in range(1, malicious + 1)
    )
    assert majority_probability(clients, malicious, cohort, poisson=True) == pytest.approx(apart, rel=1e-9)


def test_known_values_and_ends():
    assert majority_probability(20, 4, 5) == pytest.approx(0.032, abs=5e-4)
    assert majority_probability(20, 8, 5) == pytest.approx(0.296, abs=5e-4)
    assert majority_probability(20, 0, 5) == majority_probability(20, 0, 5, poisson=True) == 0
    assert majority_probability(20, 20, 5) == 1
    assert majority_probability(20, 20, 5, poisson=True) == pytest.approx(1 - 0.75**20)  # but for an empty cohort
    assert majority_probability(20, 9, 20) == 0
    assert majority_probability(20, 10, 20) == 1
