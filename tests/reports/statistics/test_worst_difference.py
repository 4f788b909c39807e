"""The difference of two worst cases: by hand, beside the paired t test and ranks, and its coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.paired import Verdict, paired
from autoflip_secure.reports.statistics.worst_case import Tried, above_p
from autoflip_secure.reports.statistics.worst_difference import worst_difference


def tried(values: np.ndarray) -> Tried:
    return {f"attack {number}": dict(enumerate(row)) for number, row in enumerate(values.tolist())}


def test_of_one_attack_it_is_the_paired_difference() -> None:
    draws = np.random.default_rng(1)
    a, b = 0.7 + 0.02 * draws.normal(size=(1, 7)), 0.69 + 0.02 * draws.normal(size=(1, 7))
    found, known = worst_difference(tried(a), tried(b)), paired(dict(enumerate(a[0])), dict(enumerate(b[0])))
    assert found is not None
    assert known is not None
    for name in ("mean", "low", "high"):
        assert getattr(found.difference, name) == pytest.approx(getattr(known.difference, name))
    assert (found.t_p, found.equal_p) == pytest.approx((known.t_p, known.equal_p))
    assert (found.verdict, found.difference.n) == (known.verdict, 7)


def test_ends_by_hand() -> None:
    draws = np.random.default_rng(2)
    a, b = 0.7 + 0.05 * draws.normal(size=(2, 5)), 0.6 + 0.05 * draws.normal(size=(3, 5))
    found = worst_difference(tried(a), tried(b))
    assert found is not None

    def end(j: int, k: int, among: int, sign: int) -> float:
        d = a[j] - b[k]
        return float(d.mean() + sign * stats.t.ppf(1 - 0.025 / among, 4) * stats.sem(d))

    assert found.difference.low == pytest.approx(max(min(end(j, k, 3, -1) for j in range(2)) for k in range(3)))
    assert found.difference.high == pytest.approx(min(max(end(j, k, 2, 1) for k in range(3)) for j in range(2)))
    assert found.difference.mean == pytest.approx(a.mean(axis=1).min() - b.mean(axis=1).min())
    assert found.t_p == pytest.approx(min(1, 2 * min(above_p(tried(a), tried(b)), above_p(tried(b), tried(a)))))


def test_ends_and_p_say_the_same() -> None:
    draws = np.random.default_rng(3)
    for shift in np.linspace(-0.2, 0.2, 41):
        a, b = 0.5 + shift + 0.05 * draws.normal(size=(3, 6)), 0.5 + 0.05 * draws.normal(size=(4, 6))
        found = worst_difference(tried(a), tried(b))
        assert found is not None
        low, high, (judged,) = found.difference.low, found.difference.high, corrected([found])
        assert low is not None
        assert high is not None
        assert (low > 0 or high < 0) == (found.t_p is not None and found.t_p <= 0.05)
        assert judged is not None
        assert judged.verdict is found.verdict


@pytest.mark.parametrize("spreads", [(0.01, 0.04), (0.02, 0.02)])
@pytest.mark.parametrize("apart", [0.0, 0.03])
def test_coverage(spreads: tuple[float, float], apart: float) -> None:
    """Six attacks each; ``apart`` is how far the others lie above the worst. The lowest of each seed misses."""
    draws, covered, naive = np.random.default_rng(4), 0, 0
    level = np.r_[0.0, np.full(5, apart)][:, None]
    for _ in range(120):
        a, b = (0.6 + level + spread * draws.normal(size=(6, 8)) for spread in spreads)
        found = worst_difference(tried(a), tried(b))
        assert found is not None
        assert found.difference.low is not None
        assert found.difference.high is not None
        covered += found.difference.low <= 0 <= found.difference.high
        lowest = paired(*(dict(enumerate(side.min(axis=0))) for side in (a, b)))
        naive += lowest is not None and lowest.verdict in (Verdict.BETTER, Verdict.WORSE)
    assert covered / 120 >= 0.92
    if apart == 0 and spreads[0] != spreads[1]:
        assert naive / 120 > 0.9, "what it is there to avoid"


def test_equal_runs_stay_equal_and_few_seeds_say_nothing() -> None:
    same = tried(np.array([[0.5, 0.6, 0.7], [0.4, 0.6, 0.6]]))
    found = worst_difference(same, same)
    assert found is not None
    (judged,) = corrected([found])
    assert judged is not None
    assert judged.verdict is Verdict.EQUAL
    one = worst_difference(tried(np.array([[0.5], [0.4]])), tried(np.array([[0.9]])))
    assert one is not None
    assert (one.verdict, one.difference.low, one.difference.mean) == (Verdict.CANNOT_TELL, None, pytest.approx(-0.5))
    assert worst_difference({"x": {1: 0.5}}, {"x": {2: 0.5}}) is None
    for seeds, word in ((5, Verdict.CANNOT_TELL), (6, Verdict.BETTER)):
        steady = worst_difference(tried(np.full((1, seeds), 0.5)), tried(np.full((1, seeds), 0.25)))
        assert steady is not None
        (judged,) = corrected([steady])
        assert judged is not None
        assert judged.verdict is word
