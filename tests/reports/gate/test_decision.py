"""The three words and their error rates, measured by simulation: what ``docs/gate.md`` promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sizes import every, sized

from autoflip_secure.reports.gate.comparison import LEVEL, compare
from autoflip_secure.reports.gate.decision import Decision, GateDecision, hochberg, judge, seeds_needed
from autoflip_secure.reports.gate.metrics import METRICS

ACCURACY, AUC, BYTES = METRICS["clean_accuracy"], METRICS["detection_auc"], METRICS["bytes"]
MARGIN = 0.02
WORLD = np.random.default_rng(20240229)


def accuracies(mean: float, spread: float, n: int, first: int = 0) -> dict[int, float]:
    """As they are measured: shares of 360 test images."""
    draws = np.clip(np.round(WORLD.normal(mean, spread, n) * 360) / 360, 0, 1)
    return {first + i: float(x) for i, x in enumerate(draws)}


def one(old: dict[int, float], new: dict[int, float], margin: float = MARGIN) -> GateDecision:
    return judge([compare(ACCURACY, old, new)], [ACCURACY], [margin])[0]


def other_seeds(n: int, losses: list[float], spread: float) -> list[Decision]:
    """A run with other seeds, one metric per loss (0: unchanged code)."""
    pairs = [
        compare(ACCURACY, accuracies(0.9, spread, n), accuracies(0.9 - loss, spread, n, first=1000)) for loss in losses
    ]
    return [j.decision for j in judge(pairs, [ACCURACY] * len(losses), [MARGIN] * len(losses))]


def same_seeds(n: int, losses: list[float], spread: float) -> list[Decision]:
    """A changed program on the same seeds; ``spread`` is that of the differences, seeds vary five times as much."""
    pairs = []
    for loss in losses:
        old = accuracies(0.85, 5 * spread, n)
        moved = WORLD.normal(-loss, spread, n)
        pairs.append(compare(ACCURACY, old, {s: float(np.round((old[s] + moved[s]) * 360) / 360) for s in old}))
    return [j.decision for j in judge(pairs, [ACCURACY] * len(losses), [MARGIN] * len(losses))]


def rate(events: list[bool]) -> tuple[float, float]:
    """Share, and what a true rate of 5 % would give at most (99.9 %)."""
    return sum(events) / len(events), float(stats.binom.ppf(0.999, len(events), LEVEL)) / len(events)


@pytest.mark.parametrize("n", [3, pytest.param(5, marks=pytest.mark.slow), 10])
@pytest.mark.parametrize("spread", every(2, [0.05, 0.005]))
def test_unchanged_code_on_other_seeds_is_called_a_regression_in_at_most_5_percent(n: int, spread: float) -> None:
    """Family-wise: 15 metrics, any one of them. The margin is four spreads of a seed, and less than half of one."""
    alarms, bound = rate([Decision.REGRESSION in other_seeds(n, [0.0] * 15, spread) for _ in range(sized(100, 300))])
    assert alarms <= bound


def test_changed_code_without_a_loss_on_the_same_seeds_too() -> None:
    alarms, bound = rate([Decision.REGRESSION in same_seeds(5, [0.0] * 15, 0.02) for _ in range(sized(100, 300))])
    assert alarms <= bound


def test_the_check_of_the_alarms_can_fail() -> None:
    """Without Holm's correction fifteen metrics raise an alarm in far more than 5 % of all runs."""

    def uncorrected() -> bool:
        return any(other_seeds(5, [0.0], 0.05) == [Decision.REGRESSION] for _ in range(15))

    alarms, bound = rate([uncorrected() for _ in range(100)])
    assert alarms > bound


@pytest.mark.parametrize("others", [0, 10])
@pytest.mark.parametrize("run", [same_seeds, other_seeds])
def test_a_regression_of_the_size_of_the_margin_passes_in_at_most_5_percent(run, others: int) -> None:  # type: ignore[no-untyped-def]
    """Wherever the other metrics stand: the gate as a whole passes only if this one does."""
    passed, bound = rate(
        [set(run(6, [MARGIN] + [0.0] * others, 0.01)) == {Decision.PASS} for _ in range(sized(200, 500))]
    )
    assert passed <= bound


def test_the_check_of_the_passes_can_fail() -> None:
    """Half the margin is within what is tolerated, and does pass much more often."""
    passed, bound = rate([same_seeds(10, [MARGIN / 2], 0.01) == [Decision.PASS] for _ in range(200)])
    assert passed > bound


def test_with_enough_seeds_the_gate_names_the_regression_and_passes_the_unchanged() -> None:
    """The two tests mirror each other: what lets an unchanged run pass catches a loss of one margin."""
    caught = [same_seeds(8, [MARGIN, 0.0, 0.0, 0.0], 0.01) for _ in range(200)]
    assert np.mean([words[0] is Decision.REGRESSION for words in caught]) > 0.9
    assert np.mean([words[0] is Decision.PASS for words in caught]) <= LEVEL
    quiet = [same_seeds(8, [0.0] * 4, 0.01) for _ in range(200)]
    assert np.mean([set(words) == {Decision.PASS} for words in quiet]) > 0.9


def test_the_stated_number_of_seeds_settles_it_four_times_out_of_five() -> None:
    for gain, margin in ((0.0, 0.02), (-0.005, 0.02), (-0.03, 0.02)):
        needed = seeds_needed(gain, 0.02, margin, (LEVEL, LEVEL), paired=True)
        assert needed is not None
        settled = []
        for _ in range(sized(150, 400)):
            old = {s: float(x) for s, x in enumerate(WORLD.uniform(0.4, 0.9, needed))}
            new = {s: x + float(WORLD.normal(gain, 0.02)) for s, x in old.items()}
            settled.append(one(old, new, margin).decision is not Decision.CANNOT_TELL)
        assert 0.73 < np.mean(settled) < 0.96
        fewer = seeds_needed(gain, 0.01, margin, (LEVEL, LEVEL), paired=True)
        assert fewer is not None
        assert fewer < needed
    assert seeds_needed(-0.0199, 5.0, 0.02, (LEVEL, LEVEL), paired=False) is None


def test_the_words() -> None:
    old = {s: 0.9 + 0.01 * s for s in range(5)}

    def moved(loss: float, wobble: float) -> dict[int, float]:
        return {s: v - loss + wobble * (s - 2) for s, v in old.items()}

    better = one(old, moved(-0.05, 0.001))
    assert (better.decision, better.reason) == (Decision.PASS, "a loss beyond the margin is ruled out")
    within = one(old, moved(0.005, 0.0005))
    assert (within.decision, within.reason) == (Decision.PASS, "worse, but a loss beyond the margin is ruled out")
    margin = one(old, moved(0.02, 0.002))
    assert margin.decision is Decision.REGRESSION
    assert margin.reason == "worse, and a loss beyond the margin is not ruled out"
    beyond = one(old, moved(0.05, 0.002))
    assert (beyond.decision, beyond.reason) == (Decision.REGRESSION, "worse by more than the margin")
    wild = one(old, moved(0.0, 0.1))
    assert wild.decision is Decision.CANNOT_TELL
    assert wild.more_seeds is not None
    assert wild.more_seeds > 50


def test_no_spread_is_held_against_the_margin_itself() -> None:
    old = dict.fromkeys(range(3), 1e6)
    for factor, expected in (
        (0.5, Decision.PASS),
        (1.0, Decision.PASS),
        (1.0499, Decision.PASS),
        (1.05, Decision.REGRESSION),
    ):
        (j,) = judge([compare(BYTES, old, {s: v * factor for s, v in old.items()})], [BYTES], [0.05])
        assert (j.decision, j.p_pass) == (expected, None)
    (zero,) = judge([compare(BYTES, old, old)], [BYTES], [0.0])
    assert (zero.decision, zero.reason) == (Decision.PASS, "the same on every seed")


def test_what_needs_no_test_is_not_in_the_family() -> None:
    """Forty byte counts that agree exactly cost the accuracies nothing."""
    old, new = {s: 0.9 + 0.01 * s for s in range(4)}, {s: 0.89 + 0.011 * s for s in range(4)}
    flat = compare(BYTES, {1: 5.0, 2: 5.0}, {1: 5.0, 2: 5.0})
    alone = one(old, new)
    together = judge([compare(ACCURACY, old, new)] + [flat] * 40, [ACCURACY] + [BYTES] * 40, [MARGIN] + [0.05] * 40)[0]
    assert (together.p_pass, together.p_worse) == (alone.p_pass, alone.p_worse)


def rejected_by_hochberg(p_values: list[float], level: float) -> set[int]:
    """As the procedure is told: from the largest p down, the first with p <= level / rank takes all smaller with it."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    for rank, i in enumerate(order, start=1):
        if p_values[i] <= level / rank:
            return {k for k in range(len(p_values)) if p_values[k] <= p_values[i]}
    return set()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_hochberg_rejects_what_the_procedure_rejects(p_values: list[float], level: float) -> None:
    none, *adjusted = hochberg([None, *p_values])
    assert none is None
    by_hand = rejected_by_hochberg(p_values, level)
    for i, p in enumerate(adjusted):
        assert p is not None
        if abs(p - level) > 1e-12:
            assert (p <= level) == (i in by_hand)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
def test_all_pass_exactly_when_each_passes_by_itself(p_values: list[float]) -> None:
    """The intersection-union test inside Hochberg's procedure."""
    adjusted = [p for p in hochberg(p_values) if p is not None]
    assert all(p <= LEVEL for p in adjusted) == all(p <= LEVEL for p in p_values)
    assert all(a >= p - 1e-15 for a, p in zip(adjusted, p_values, strict=True))
