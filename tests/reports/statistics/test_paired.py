"""Known answers, libraries as second witness, and the interval's promise checked by simulation."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.intervals import Interval, bootstrap_interval, mean_interval
from autoflip_secure.reports.statistics.paired import Verdict, complete, holm, judge, paired


def test_interval_of_a_textbook_sample():
    # 1..5: mean 3, s = sqrt(2.5), t(.975, 4) = 2.776445
    interval = mean_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3
    assert interval.low == pytest.approx(3 - 2.776445 * 2.5**0.5 / 5**0.5, abs=1e-5)
    assert interval.high == pytest.approx(3 + 2.776445 * 2.5**0.5 / 5**0.5, abs=1e-5)


def test_one_seed_has_no_interval_and_says_why():
    interval = mean_interval([0.5])
    assert (interval.low, interval.high, interval.n) == (None, None, 1)
    assert "one seed" in interval.reason
    assert judge(interval) is Verdict.CANNOT_TELL
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def coverage(level: float, n: int = 5, runs: int = 4000) -> float:
    draws = np.random.default_rng(3).normal(0.7, 0.02, size=(runs, n))
    hits = 0
    for row in draws:
        interval = mean_interval(row, level)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0.7 <= interval.high
    return hits / runs


def test_the_95_percent_interval_covers_95_percent():
    assert coverage(0.95) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of 4000 runs


def test_the_coverage_check_rejects_a_normal_interval():
    # 1.96 standard errors with five seeds cover only 87.8 %: the level that gives t = 1.96 with 4 degrees of freedom
    assert abs(coverage(float(2 * stats.t.cdf(1.96, 4) - 1)) - 0.95) > 0.05


def test_paired_against_scipy_and_by_hand():
    a = {0: 0.91, 1: 0.93, 2: 0.90, 3: 0.95, 9: 0.2}
    b = {3: 0.90, 2: 0.88, 1: 0.90, 0: 0.87, 7: 0.9}
    result = paired(a, b)
    assert result is not None
    d = np.array([0.04, 0.03, 0.02, 0.05])  # seeds 9 and 7 have no partner
    assert result.difference.n == 4
    assert result.difference.mean == pytest.approx(0.035)
    assert result.t_p == pytest.approx(stats.ttest_rel([0.91, 0.93, 0.90, 0.95], [0.87, 0.90, 0.88, 0.90]).pvalue)
    assert result.wilcoxon_p == pytest.approx(2 / 2**4)  # all four positive: two of sixteen sign patterns
    assert result.effect == pytest.approx(0.035 / d.std(ddof=1))
    assert result.verdict is Verdict.BETTER
    assert paired({1: 0.1}, {2: 0.1}) is None


def test_pairing_finds_what_unpaired_intervals_hide():
    seeds = np.random.default_rng(0).normal(0.8, 0.1, 6)
    b = dict(enumerate(seeds))
    a = dict(enumerate(seeds + 0.02 + np.linspace(-0.004, 0.004, 6)))
    result = paired(a, b)
    assert result is not None
    assert result.verdict is Verdict.BETTER
    assert stats.ttest_ind(list(a.values()), list(b.values())).pvalue > 0.3


def test_identical_and_flat_differences_make_no_claims():
    same = paired({0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.5, 1: 0.6, 2: 0.7})
    assert same is not None
    assert (same.verdict, same.t_p, same.wilcoxon_p, same.effect) == (Verdict.EQUAL, None, None, None)
    shifted = paired({0: 0.5, 1: 0.75}, {0: 0.25, 1: 0.5})
    assert shifted is not None
    assert shifted.verdict is Verdict.CANNOT_TELL  # two seeds that agree by chance are no evidence of certainty


def test_differences_without_spread_need_as_many_seeds_as_a_sign_test():
    five, six = (dict.fromkeys(range(n), 0.5) for n in (5, 6))  # 2 / 2^5 > 5 %, 2 / 2^6 < 5 %
    few, many = (paired(dict.fromkeys(other, 0.75), other) for other in (five, six))
    assert few is not None
    assert many is not None
    assert (few.verdict, few.seeds_needed) == (Verdict.CANNOT_TELL, 6)
    assert (many.verdict, many.seeds_needed) == (Verdict.BETTER, None)


def test_the_bootstrap_of_a_pair_is_of_its_differences():
    result = paired({0: 0.9, 1: 0.8, 2: 0.95, 3: 0.7}, {0: 0.8, 1: 0.75, 2: 0.8, 3: 0.69, 4: 0.1})
    assert result is not None
    assert result.differences == pytest.approx((0.1, 0.05, 0.15, 0.01))
    assert result.bootstrap == bootstrap_interval(result.differences)
    assert result.bootstrap.low is not None
    assert result.bootstrap.low > 0


@given(st.dictionaries(st.sampled_from("abcd"), st.dictionaries(st.integers(0, 4), st.just(0.5)), max_size=4))
def test_complete_tables_are_complete_and_no_smaller_than_one_column_or_two(cells: dict[str, dict[int, float]]):
    keys, seeds = complete(cells)
    assert all(seed in cells[key] for key in keys for seed in seeds)
    assert keys == [k for k in cells if k in keys]
    assert len(keys) * len(seeds) >= max((len(v) for v in cells.values()), default=0)
    for first in cells.values():
        for second in cells.values():
            if first is not second:
                assert len(keys) * len(seeds) >= 2 * len(set(first) & set(second))


def test_complete_keeps_four_seeds_rather_than_one_more_level():
    cells = {level: dict.fromkeys(range(5), 0.5) for level in "abcd"} | {"e": {3: 0.5}}
    assert complete(cells) == (["a", "b", "c", "d"], [0, 1, 2, 3, 4])
    holes = {"a": {0: 1.0}, "b": {1: 1.0}} | {level: {0: 1.0, 1: 1.0} for level in "cde"}
    assert complete(holes) == (["c", "d", "e"], [0, 1])
    assert complete({}) == ([], [])


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.001, 0.002, Verdict.BETTER),
        (-0.2, -0.001, Verdict.WORSE),
        (-0.004, 0.003, Verdict.EQUAL),
        (-0.006, 0.003, Verdict.CANNOT_TELL),
        (-0.2, 0.2, Verdict.CANNOT_TELL),
    ],
)
def test_words_need_an_interval(low: float, high: float, word: Verdict):
    assert judge(Interval((low + high) / 2, low, high, 5), margin=0.005) is word


def holm_slow(p: list[float]) -> list[float]:
    """Oracle: adjusted p of i = max over j with p_j <= p_i of p_j x (number of hypotheses not below p_j)."""
    return [min(1.0, max(q * sum(r >= q for r in p) for q in p if q <= x)) for x in p]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8, unique=True))
def test_holm_against_the_definition(p: list[float]):
    assert holm(p) == pytest.approx(holm_slow(p))


@pytest.mark.slow
def test_holm_against_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    generator = np.random.default_rng(4)
    for size in (1, 2, 5, 40):
        for p in (generator.uniform(0, 1, size), np.round(generator.beta(0.3, 2, size), 2)):  # with ties too
            assert holm(p.tolist()) == pytest.approx(multitest.multipletests(p, method="holm")[1].tolist())


def test_holm_by_hand_and_with_gaps():
    assert holm([0.01, None, 0.02, 0.5]) == pytest.approx([0.03, None, 0.04, 0.5])
    assert holm([]) == []


def test_few_runs_that_are_stuck_at_one_value_are_not_shown_to_be_equal():
    """Both at chance, or at 100 %, on every seed: FedAvg breaks always, the other in seven of ten, a difference of 15
    points; and yet three seeds of either look alike in a third of sweeps."""
    draws, word = np.random.default_rng(8), Counter[Verdict]()
    for _ in range(200):
        other = {seed: 0.1 if draws.random() < 0.7 else 0.6 for seed in range(3)}
        found = paired(dict.fromkeys(other, 0.1), other)
        assert found is not None
        (found,) = corrected([found])
        assert found is not None
        word[found.verdict] += 1
    assert set(word) == {Verdict.CANNOT_TELL}
    for seeds, expected, needed in ((2, Verdict.CANNOT_TELL, 6), (5, Verdict.CANNOT_TELL, 6), (6, Verdict.EQUAL, None)):
        top = dict.fromkeys(range(seeds), 1.0)
        for same_runs in (False, True):
            found = paired(top, top, same_runs=same_runs)
            assert found is not None
            (judged,) = corrected([found])
            assert judged is not None
            known = (Verdict.EQUAL, None) if same_runs else (expected, needed)
            assert (found.verdict, found.seeds_needed) == (judged.verdict, judged.seeds_needed) == known
    varied = {0: 0.9, 1: 0.91}
    found = paired(varied, varied)
    assert found is not None
    assert found.verdict is Verdict.EQUAL, "agreement at values that differ from seed to seed is no accident"
