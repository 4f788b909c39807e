r"""What the evidence supports: intervals over seeds, paired differences, tests, and words only where they are earned.

Runs are paired by seed: two algorithms at one seed see the same partition, cohort, initial weights and bad clients, so
the difference :math:`d_s = a_s - b_s` of each seed is what is averaged.

.. math:: \bar d \pm t_{1-\alpha/2,\,n-1}\; s_d / \sqrt n
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import stats

LEVEL = 0.95
MARGIN = 0.005  # half a point of accuracy: differences that stay inside are called equal
_FLAT = 1e-12  # spread below which seeds count as identical


class Verdict(Enum):
    """The word that an interval of a difference supports."""

    BETTER = "better"
    EQUAL = "equal within the margin"
    WORSE = "worse"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds; ``low`` and ``high`` are None when there is no interval, and ``reason`` says why."""

    mean: float
    low: float | None
    high: float | None
    n: int
    reason: str = ""


@dataclass(frozen=True)
class Paired:
    """A difference paired by seed. p-values are None where the test is undefined (one seed, or no spread)."""

    difference: Interval
    t_p: float | None
    wilcoxon_p: float | None
    effect: float | None  # mean / standard deviation of the differences (Cohen's d_z)
    verdict: Verdict
    seeds_needed: int | None  # about how many seeds would settle a "cannot tell"; None: settled, or unknown


def mean_interval(values: Sequence[float], level: float = LEVEL, *, share: bool = False) -> Interval:
    """Mean and t interval of ``values`` (one per seed); of a ``share``, the part of the interval that lies in [0, 1].

    >>> mean_interval([1.0, 2.0, 3.0]).mean
    2.0
    >>> mean_interval([0.9]).reason
    'one seed gives no interval'
    """
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("mean_interval needs at least one value, got none")
    mean = float(data.mean())
    if data.size == 1:
        return Interval(mean, None, None, 1, "one seed gives no interval")
    half = float(stats.t.ppf((1 + level) / 2, data.size - 1) * data.std(ddof=1) / math.sqrt(data.size))
    low, high = mean - half, mean + half
    return Interval(mean, max(0.0, low), min(1.0, high), data.size) if share else Interval(mean, low, high, data.size)


def judge(interval: Interval, margin: float = MARGIN) -> Verdict:
    """The word for a difference: a direction only when zero is outside, equal only when all of it is within the margin.

    Differences without any spread that are not zero (a handful of seeds that happen to agree) support no word.
    """
    low, high = interval.low, interval.high
    if low is None or high is None:
        return Verdict.CANNOT_TELL
    if high - low < _FLAT and abs(interval.mean) > _FLAT:
        return Verdict.CANNOT_TELL
    if low > 0:
        return Verdict.BETTER
    if high < 0:
        return Verdict.WORSE
    if -margin <= low and high <= margin:
        return Verdict.EQUAL
    return Verdict.CANNOT_TELL


def seeds_to_settle(differences: Sequence[float], margin: float = MARGIN, level: float = LEVEL) -> int | None:
    """Smallest number of seeds that gives a word if mean and spread stay as they are; None: unknown or over 1000.

    A planning figure: with exactly that many seeds the word comes out about every other time.
    """
    data = np.asarray(differences, dtype=float)
    if data.size < 2 or data.std(ddof=1) < _FLAT:
        return None
    mean, spread = abs(float(data.mean())), float(data.std(ddof=1))
    target = max(mean, margin - mean)
    counts = np.arange(2, 1001)
    enough = stats.t.ppf((1 + level) / 2, counts - 1) * spread / np.sqrt(counts) < target
    return int(counts[int(np.argmax(enough))]) if bool(enough.any()) else None


def paired(
    a: Mapping[int, float], b: Mapping[int, float], *, margin: float = MARGIN, level: float = LEVEL
) -> Paired | None:
    """Compare ``a`` with ``b`` (seed -> value) on the seeds that both have; None when they share none.

    Tests are two-sided: paired t (:func:`scipy.stats.ttest_1samp` on the differences) and Wilcoxon's signed ranks.
    """
    shared = sorted(set(a) & set(b))
    if not shared:
        return None
    differences = np.array([a[seed] - b[seed] for seed in shared])
    interval = mean_interval(differences.tolist(), level)
    verdict = judge(interval, margin)
    flat = len(shared) < 2 or float(differences.std(ddof=1)) < _FLAT
    return Paired(
        difference=interval,
        t_p=None if flat else float(stats.ttest_1samp(differences, 0.0).pvalue),
        wilcoxon_p=None if flat else _wilcoxon(differences),
        effect=None if flat else float(differences.mean() / differences.std(ddof=1)),
        verdict=verdict,
        seeds_needed=seeds_to_settle(differences.tolist(), margin, level) if verdict is Verdict.CANNOT_TELL else None,
    )


def _wilcoxon(differences: np.ndarray) -> float:
    rounded = np.round(differences, 12)  # differences that are equal but for rounding share a rank
    with warnings.catch_warnings():  # ties and zeros make scipy fall back to the normal approximation, and say so
        warnings.simplefilter("ignore", UserWarning)
        return float(stats.wilcoxon(rounded).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the family of the values that are not None.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03]) if p is not None]
    [0.03, 0.06, 0.06]
    """
    family = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(family):
        running = max(running, min(1.0, p * (len(family) - rank)))
        adjusted[i] = running
    return adjusted


def roc(scores: Sequence[float], bad: Sequence[bool]) -> tuple[list[tuple[float, float]], float | None]:
    """ROC of "a low score means bad": points (false positive rate, true positive rate), and the area under them.

    Equal scores are one threshold. The area is None, and there are no points, when only one class is present.
    """
    truth = np.asarray(bad, dtype=bool)
    values = np.asarray(scores, dtype=float)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return [], None
    order = np.argsort(values, kind="stable")
    last_of_ties = np.r_[np.nonzero(np.diff(values[order]))[0], values.size - 1]
    tpr = np.r_[0.0, np.cumsum(truth[order])[last_of_ties] / positives]
    fpr = np.r_[0.0, np.cumsum(~truth[order])[last_of_ties] / negatives]
    area = float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))
    return list(zip(fpr.tolist(), tpr.tolist(), strict=True)), area
