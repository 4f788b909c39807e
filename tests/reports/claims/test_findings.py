"""When a claim is called: bounds by hand, several places, and how often it is called wrongly."""

import numpy as np
import pytest
from sizes import sized

from autoflip_secure.reports.claims.findings import (
    AT_LEVEL,
    NOT_LOWER,
    Answer,
    Bound,
    Evidence,
    above,
    conclude,
    over,
    weigh,
)
from autoflip_secure.reports.statistics.intervals import Interval


def values(mean: float, spread: float, n: int = 5) -> dict[int, float]:
    raw = np.arange(n) - (n - 1) / 2
    return dict(enumerate((mean + spread * raw / raw.std(ddof=1)).tolist()))


HALF = 2.776445 / 5**0.5  # half width of the interval of five values, per unit of spread


@pytest.mark.parametrize(
    ("bound", "mean", "spread", "answer"),
    [
        (NOT_LOWER, 0.002, 0.004, Answer.HOLDS),  # [-0.3, +0.7] points: a loss is under half a point
        (NOT_LOWER, -0.002, 0.001, Answer.DOES_NOT_HOLD),  # small, and measurable
        (AT_LEVEL, -0.002, 0.001, Answer.HOLDS),  # the same: within the margin
        (NOT_LOWER, 0.0, 0.02, Answer.CANNOT_TELL),
        (AT_LEVEL, -0.02, 0.005, Answer.DOES_NOT_HOLD),
        (above(0.005), 0.003, 0.002, Answer.HOLDS),
        (above(0.005), 0.001, 0.002, Answer.DOES_NOT_HOLD),  # certainly not better by half a point
        (above(0.005), 0.004, 0.01, Answer.CANNOT_TELL),
        (Bound(0.5, 0.5), 0.6, 0.01, Answer.HOLDS),
        (Bound(0.5, 0.5), 0.4, 0.01, Answer.DOES_NOT_HOLD),
        (over(0.5), 0.5, 0.0, Answer.DOES_NOT_HOLD),  # over is more than
        (over(0.5), 0.5001, 0.0, Answer.HOLDS),
    ],
)
def test_answers_by_hand(bound: Bound, mean: float, spread: float, answer: Answer):
    found = weigh("here", values(mean, spread), bound)
    assert found.interval.low == pytest.approx(mean - HALF * spread, abs=1e-6)
    assert found.answer is answer
    assert (found.seeds_needed is not None) == (answer is Answer.CANNOT_TELL)


def test_more_places_need_stronger_evidence_to_refute():
    data = values(-0.01, 0.0075)  # [-1.93, -0.07] points
    assert weigh("one", data, NOT_LOWER, 1).answer is Answer.DOES_NOT_HOLD
    assert weigh("one of three", data, NOT_LOWER, 3).answer is Answer.CANNOT_TELL


def test_one_seed_and_equal_seeds_answer_nothing():
    assert weigh("one seed", {0: 0.9}, above(0.005)).answer is Answer.CANNOT_TELL
    few, many = (dict.fromkeys(range(n), 0.1) for n in (5, 6))
    assert (weigh("x", few, above(0.005)).answer, weigh("x", few, above(0.005)).seeds_needed) == (Answer.CANNOT_TELL, 6)
    assert weigh("x", many, above(0.005)).answer is Answer.HOLDS
    assert weigh("x", few, Bound(0.05, 0.05, counted=True)).answer is Answer.HOLDS  # costs are counted, not sampled
    same = dict.fromkeys(range(3), 0.0)
    assert weigh("equal runs", same, NOT_LOWER).answer is Answer.HOLDS
    assert weigh("equal runs", same, above(0.005)).answer is Answer.CANNOT_TELL
    for levels, answer in (([0.9, 0.91], Answer.HOLDS), ([1.0, 1.0], Answer.CANNOT_TELL), ([1.0] * 6, Answer.HOLDS)):
        found = weigh("both there", dict.fromkeys(range(len(levels)), 0.0), NOT_LOWER, levels=levels)
        assert found.answer is answer


@pytest.mark.parametrize(
    ("answers", "answer"),
    [
        ([], Answer.NOT_TESTED),
        ([Answer.HOLDS, Answer.HOLDS], Answer.HOLDS),
        ([Answer.HOLDS, Answer.CANNOT_TELL], Answer.CANNOT_TELL),
        ([Answer.HOLDS, Answer.DOES_NOT_HOLD, Answer.CANNOT_TELL], Answer.DOES_NOT_HOLD),
    ],
)
def test_all_places_together(answers: list[Answer], answer: Answer):
    assert conclude([Evidence("", "", Interval(0, 0, 0, 5), a) for a in answers]) is answer


def wrongly_refuted(places: int, runs: int) -> float:
    """Share of sweeps in which three places, each exactly at the bound, refute a claim that is true."""
    draws = np.random.default_rng(2).normal(0.0, 0.01, size=(runs, 3, 5)).tolist()
    found = [conclude([weigh("", dict(enumerate(place)), NOT_LOWER, places) for place in run]) for run in draws]
    return sum(answer is Answer.DOES_NOT_HOLD for answer in found) / runs


def test_a_true_claim_is_refuted_as_seldom_as_promised():
    runs = sized(300, 800)
    allowed = 0.025 + 3 * (0.025 * 0.975 / runs) ** 0.5  # one side of 5 %, whatever the number of places
    assert wrongly_refuted(places=3, runs=runs) < allowed
    assert wrongly_refuted(places=1, runs=runs) > allowed  # the check can fail: without the correction it is 7 %
