r"""What the evidence supports: differences paired by seed, tests, and words only where they are earned.

Runs are paired by seed: two algorithms at one seed see the same partition, cohort, initial weights and malicious
clients, so the difference :math:`d_s = a_s - b_s` of each seed is what is averaged, and a seed that only one of the
two has is left out.

.. math:: \bar d \pm t_{1-\alpha/2,\,n-1}\; s_d / \sqrt n
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TypeVar

import numpy as np
from scipy import stats

from autoflip_secure.records.t_interval import LEVEL
from autoflip_secure.reports.statistics.intervals import (
    FLAT,
    MARGIN,
    UNDECIDED,
    Interval,
    bootstrap_interval,
    mean_interval,
)
from autoflip_secure.reports.statistics.sample_size import few_alike, seeds_to_settle, stuck
from autoflip_secure.reports.statistics.signed_ranks import signed_rank_p

Key = TypeVar("Key", bound=Hashable)


class Verdict(Enum):
    """The word that an interval of a difference supports."""

    BETTER = "better"
    EQUAL = "equal within the margin"
    WORSE = "worse"
    CANNOT_TELL = UNDECIDED


@dataclass(frozen=True)
class Paired:
    """A difference paired by seed. p-values are None where the test is undefined (one seed, or no spread)."""

    difference: Interval
    t_p: float | None
    wilcoxon_p: float | None
    effect: float | None  # mean / standard deviation of the differences (Cohen's d_z)
    verdict: Verdict
    seeds_needed: int | None  # about how many seeds would settle a "cannot tell"; None: settled, or unknown
    differences: tuple[float, ...] = ()  # one per shared seed, in the order of the seeds
    level: float = LEVEL
    margin: float = MARGIN
    equal_p: float | None = None  # of the two one-sided tests against the margin; None: there is none
    family: int = 1  # comparisons that the verdict is corrected for (:func:`.correction.corrected`)
    t_holm: float | None = None  # of :attr:`p`, over the family
    wilcoxon_holm: float | None = None

    @property
    def p(self) -> float | None:
        """What a direction rests on: the t test; the sign test where all seeds differ by the same; None: neither."""
        n, mean = self.difference.n, self.difference.mean
        return 2.0 ** (1 - n) if self.t_p is None and n > 1 and abs(mean) > FLAT else self.t_p

    @property
    def settled(self) -> bool:
        """Whether a word survives the correction: then its mark in a figure is filled, else hollow."""
        return self.verdict is not Verdict.CANNOT_TELL

    @property
    def lost(self) -> bool:
        """Whether its interval alone would have given a direction, which the correction took away."""
        alone = judge(self.difference, self.margin, self.level)
        return self.verdict is Verdict.CANNOT_TELL and alone in (Verdict.BETTER, Verdict.WORSE)

    @cached_property
    def bootstrap(self) -> Interval:
        """The BCa interval of the same differences, beside the t interval that the verdict rests on."""
        return bootstrap_interval(self.differences, self.level)


def judge(interval: Interval, margin: float = MARGIN, level: float = LEVEL) -> Verdict:
    """The word for a difference: a direction only when zero is outside, equal only when all of it is within the margin.

    Differences without any spread that are not zero get a direction only from as many seeds as a sign test needs: a
    handful that happen to agree support no word.
    """
    low, high = interval.low, interval.high
    if low is None or high is None or (few_alike(interval, level) and abs(interval.mean) > FLAT):
        return Verdict.CANNOT_TELL
    if low > 0:
        return Verdict.BETTER
    if high < 0:
        return Verdict.WORSE
    if -margin <= low and high <= margin:
        return Verdict.EQUAL
    return Verdict.CANNOT_TELL


def paired(
    a: Mapping[int, float],
    b: Mapping[int, float],
    *,
    margin: float = MARGIN,
    level: float = LEVEL,
    same_runs: bool = False,
) -> Paired | None:
    """Compare ``a`` with ``b`` (seed -> value) on the seeds that both have; None when they share none.

    ``same_runs``: where all values are equal, so are the runs behind them. Else a handful of them that are
    :func:`.stuck` at one value supports no "equal".

    Tests are two-sided: paired t (:func:`scipy.stats.ttest_1samp` on the differences) and Wilcoxon's signed ranks.
    """
    shared = sorted(set(a) & set(b))
    if not shared:
        return None
    differences = np.array([a[seed] - b[seed] for seed in shared])
    values = tuple(float(d) for d in differences)
    interval = mean_interval(values, level)
    unsure = not same_runs and not np.any(np.abs(differences) > FLAT) and stuck([a[seed] for seed in shared], level)
    verdict = Verdict.CANNOT_TELL if unsure else judge(interval, margin, level)
    flat = len(shared) < 2 or float(differences.std(ddof=1)) < FLAT
    return Paired(
        difference=interval,
        t_p=None if flat else float(stats.ttest_1samp(differences, 0.0).pvalue),
        wilcoxon_p=None if flat else signed_rank_p(values),
        effect=None if flat else float(differences.mean() / differences.std(ddof=1)),
        verdict=verdict,
        seeds_needed=seeds_to_settle(values, margin, level) if verdict is Verdict.CANNOT_TELL else None,
        differences=values,
        level=level,
        margin=margin,
        equal_p=None if unsure else _equal_p(interval, differences, margin),
    )


def _equal_p(interval: Interval, differences: np.ndarray, margin: float) -> float | None:
    """The larger p of the two one-sided t tests that the mean lies within the margin; 0 where nothing differs."""
    if interval.n < 2:
        return None
    error = float(differences.std(ddof=1)) / math.sqrt(interval.n)
    if error < FLAT:
        return 0.0 if abs(interval.mean) <= FLAT else None
    return max(
        float(stats.t.sf((interval.mean + margin) / error, interval.n - 1)),
        float(stats.t.cdf((interval.mean - margin) / error, interval.n - 1)),
    )


def complete(cells: Mapping[Key, Mapping[int, float]]) -> tuple[list[Key], list[int]]:
    """A complete table inside an incomplete one: keys (in their order) and seeds (ascending), every key at every seed.

    Means over keys are comparable between seeds only when each seed has all of them. Of the sets of keys that one seed
    has or two seeds share, the one that keeps the most cells is chosen, among equals the one with the most keys.

    >>> complete({"a": {0: 0.1, 1: 0.2, 2: 0.3}, "b": {0: 0.1, 2: 0.3}})
    (['a', 'b'], [0, 2])
    """
    owned = {
        s: frozenset(k for k, v in cells.items() if s in v) for s in sorted({s for v in cells.values() for s in v})
    }
    best: tuple[frozenset[Key], list[int]] = (frozenset(), [])
    for keys in dict.fromkeys(a & b for a in owned.values() for b in owned.values()):
        seeds = [s for s, own in owned.items() if keys <= own]
        if (len(keys) * len(seeds), len(keys)) > (len(best[0]) * len(best[1]), len(best[0])):
            best = keys, seeds
    return [k for k in cells if k in best[0]], best[1]


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
