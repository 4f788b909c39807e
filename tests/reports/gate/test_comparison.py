"""Lining up two runs: which seeds are used, how, and with what standard error (scipy as second witness)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autoflip_secure.reports.gate.comparison import change, compare, margin_of_gain
from autoflip_secure.reports.gate.decision import Decision, judge
from autoflip_secure.reports.gate.metrics import METRICS

ACCURACY, BYTES = METRICS["clean_accuracy"], METRICS["bytes"]
OLD = {1: 0.90, 2: 0.94, 3: 0.91, 4: 0.95}
NEW = {1: 0.89, 2: 0.94, 3: 0.88, 4: 0.93}


def by_seed(values: list[float], first: int = 0) -> dict[int, float]:
    return dict(enumerate(values, start=first))


def test_paired_p_values_are_those_of_scipy() -> None:
    c = compare(ACCURACY, OLD, NEW)
    assert (c.method, c.seeds) == ("paired", (4, 4))
    a, b = np.array(list(OLD.values())), np.array(list(NEW.values()))
    (j,) = judge([c], [ACCURACY], [0.02])
    assert j.p_pass == pytest.approx(stats.ttest_rel(b, a - 0.02, alternative="greater").pvalue)
    assert j.p_worse == pytest.approx(stats.ttest_rel(b, a, alternative="less").pvalue)
    interval = stats.ttest_rel(b, a).confidence_interval(0.90)
    assert (j.low, j.high) == pytest.approx((interval.low, interval.high))


def test_unpaired_p_values_are_those_of_welch() -> None:
    new = {seed + 10: value for seed, value in NEW.items()} | {20: 0.86}
    c = compare(ACCURACY, OLD, new)
    assert (c.method, c.seeds) == ("unpaired", (4, 5))
    a, b = np.array(list(OLD.values())), np.array(list(new.values()))
    (j,) = judge([c], [ACCURACY], [0.02])
    assert j.p_pass == pytest.approx(stats.ttest_ind(b, a - 0.02, equal_var=False, alternative="greater").pvalue)
    assert j.p_worse == pytest.approx(stats.ttest_ind(b, a, equal_var=False, alternative="less").pvalue)


def test_costs_are_compared_by_their_ratio() -> None:
    """Twice the bytes of a large run weigh as much as twice the bytes of a small one; more is worse."""
    old, new = {1: 100.0, 2: 1000.0, 3: 10.0}, {1: 108.0, 2: 1100.0, 3: 10.5}
    (j,) = judge([compare(BYTES, old, new)], [BYTES], [0.05])
    logs = [math.log(new[s] / old[s]) for s in old]
    assert j.change == pytest.approx(math.exp(sum(logs) / 3) - 1)
    assert j.p_pass == pytest.approx(stats.ttest_1samp(logs, math.log(1.05), alternative="less").pvalue)
    assert j.p_worse == pytest.approx(stats.ttest_1samp(logs, 0.0, alternative="greater").pvalue)
    assert j.low is not None
    assert j.high is not None
    assert j.low < j.change < j.high


def test_which_seeds_are_used() -> None:
    assert compare(ACCURACY, OLD, {1: 0.9, 2: 0.9, 8: 0.1}).seeds == (2, 2)  # shared ones; the lonely are left out
    assert compare(ACCURACY, OLD, {1: 0.90, 8: 0.91, 9: 0.95}).method == "unpaired"  # one pair shows no spread
    one = compare(ACCURACY, OLD, {2: 0.9})
    assert (one.method, one.seeds, one.gain) == ("none", (1, 1), pytest.approx(-0.04))
    assert compare(ACCURACY, OLD, {9: 0.9}).why == "one seed shows no spread"
    assert compare(ACCURACY, OLD, {}).why == "not measured in the new run"
    assert compare(ACCURACY, {}, NEW).gain is None


def test_bit_identical_seeds_need_no_test() -> None:
    assert compare(ACCURACY, OLD, OLD, [1, 2, 3, 4]).method == "identical"
    assert compare(ACCURACY, {1: 0.9}, {1: 0.9}, [1]).method == "identical"
    assert compare(ACCURACY, OLD, OLD, [1, 2, 3]).method == "exact"  # equal values, though not every number of the run
    assert compare(ACCURACY, {1: 0.9}, {1: 0.9}).method == "none"  # one seed may agree by chance


def test_no_spread_is_compared_exactly_but_not_on_a_coincidence() -> None:
    old = {1: 0.9, 2: 0.8, 3: 0.7}
    shifted = {seed: value - 0.03 for seed, value in old.items()}
    assert compare(ACCURACY, old, shifted).method == "exact"
    two = {1: 0.9, 2: 0.8}
    assert compare(ACCURACY, two, {1: 0.87, 2: 0.77}).method == "none"  # accuracies are multiples of 1/n: two may tie
    assert compare(BYTES, {1: 1000.0, 2: 1000.0}, {3: 1100.0, 4: 1100.0}).method == "exact"  # byte counts do not
    assert compare(ACCURACY, {1: 1.0, 2: 1.0}, {3: 1.0, 4: 0.9}).method == "unpaired"


@pytest.mark.parametrize(("level", "enough"), [(0.05, 5), (0.025, 6)])
@pytest.mark.parametrize("other", [0, 100])  # paired; of other seeds
@pytest.mark.parametrize(("value", "now"), [(1.0, 1.0), (0.1, 0.1), (0.5, 0.49), (0.9, 0.5)])
def test_few_seeds_that_are_stuck_at_one_value_prove_nothing(
    value: float, now: float, other: int, level: float, enough: int
) -> None:
    """Were a loss as likely as none, as many seeds would show none by chance in 2^-n of all cases."""
    assert 0.5**enough <= level < 0.5 ** (enough - 1)
    for count in range(2, enough + 1):
        c = compare(ACCURACY, by_seed([value] * count), by_seed([now] * count, other), level=level)
        (j,) = judge([c], [ACCURACY], [0.02], level)
        if count == enough:
            assert j.decision is (Decision.REGRESSION if value - now > 0.02 else Decision.PASS)
        else:
            assert (j.decision, j.more_seeds) == (Decision.CANNOT_TELL, enough - count)
            assert j.reason == f"one value on every seed, and {count} are too few to rule a loss out"
    vary = by_seed([value, value - 0.05])
    assert judge([compare(ACCURACY, vary, vary, level=level)], [ACCURACY], [0.02])[0].decision is Decision.PASS
    cost = compare(BYTES, by_seed([100.0] * 2), by_seed([100.0] * 2, other), level=level)
    assert judge([cost], [BYTES], [0.05])[0].decision is Decision.PASS  # counted


@given(
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=8),
    st.floats(0.5, 2.0),
    st.booleans(),
)
def test_exchanging_the_sides_turns_the_gain_around(values: list[float], factor: float, same_seeds: bool) -> None:
    other = [min(1.0, value * factor) for value in values]
    old, new = by_seed(values), by_seed(other, 0 if same_seeds else 100)
    for metric in (ACCURACY, BYTES):
        there, back = compare(metric, old, new), compare(metric, new, old)
        assert (there.method, there.seeds) == (back.method, back.seeds)
        assert there.gain == pytest.approx(-(back.gain or 0.0), abs=1e-12)
        assert there.error == pytest.approx(back.error)


@given(st.floats(0, 0.99))
def test_margins_and_changes_are_each_others_inverse(margin: float) -> None:
    for metric in METRICS.values():
        loss = change(metric, -margin_of_gain(metric, margin))
        assert loss == pytest.approx(-margin if metric.higher_is_better else margin)
