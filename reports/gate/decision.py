r"""Pass, regression or cannot tell: one decision per metric, with error rates that hold for all of them together.

With :math:`\bar\delta` the mean gain (positive is better), :math:`s` its standard error, :math:`m` the margin:

.. math::
    t_{\text{pass}} = (\bar\delta + m) / s \;\text{ against }\; H_0: \delta \le -m, \qquad
    t_{\text{worse}} = -\bar\delta / s \;\text{ against }\; H_0: \delta \ge 0

*Pass*: the first null is rejected, adjusted by Hochberg (Holm's constants, stepped up: when every metric passes by
itself, all pass, which is the intersection-union test). *Regression*: no pass, and the second null is rejected,
adjusted by Holm. Otherwise *cannot tell*. ``docs/gate.md`` says what this promises, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np
from scipy import stats

from autoflip_secure.reports.gate.comparison import LEVEL, Comparison, change, margin_of_gain
from autoflip_secure.reports.gate.metrics import Metric
from autoflip_secure.reports.statistics.intervals import FLAT, UNDECIDED
from autoflip_secure.reports.statistics.paired import holm
from autoflip_secure.reports.statistics.sample_size import MOST, POWER

TWO_LOOKS = LEVEL / 2  # of each look at a sweep that may be given more seeds after the first


class Decision(Enum):
    """What the evidence supports."""

    PASS = "pass"
    REGRESSION = "regression"
    CANNOT_TELL = UNDECIDED


@dataclass(frozen=True)
class GateDecision:
    """A decision and what it rests on. ``low`` and ``high`` are one-sided 95 % bounds of the change (new minus
    baseline in the metric's units; ratio - 1 when relative); p-values are one-sided and adjusted, None without a test.
    """

    comparison: Comparison
    margin: float
    decision: Decision
    reason: str
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p_pass: float | None = None
    p_worse: float | None = None
    more_seeds: int | None = None  # of a "cannot tell"; None: over MOST, or seeds are not what is missing


def judge(
    comparisons: Sequence[Comparison], metrics: Sequence[Metric], margins: Sequence[float], level: float = LEVEL
) -> list[GateDecision]:
    """One decision per comparison, adjusted over the family of all that need a test, at ``level``."""
    raw = [_p_values(c, margin_of_gain(m, x)) for c, m, x in zip(comparisons, metrics, margins, strict=True)]
    passing, worse = [p for p, _ in raw], [p for _, p in raw]
    members = zip(
        comparisons,
        metrics,
        margins,
        hochberg(passing),
        holm(worse),
        _levels(passing, level),
        _levels(worse, level),
        strict=True,
    )
    return [
        _tested(c, metric, margin, p, w, level, levels)
        if p is not None and w is not None
        else _untested(c, metric, margin)
        for c, metric, margin, p, w, *levels in members
    ]


def _p_values(c: Comparison, margin: float) -> tuple[float | None, float | None]:
    """One-sided p-values of the tests to pass and for "worse"; None without a test."""
    if not c.tested or c.gain is None:
        return None, None
    at_margin, at_zero = (c.gain + margin) / c.error, c.gain / c.error
    return float(stats.t.sf(at_margin, c.freedom)), float(stats.t.cdf(at_zero, c.freedom))


def hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Hochberg's step-up adjustment over the family of the values that are not None.

    >>> hochberg([0.04, None, 0.03])
    [0.04, None, 0.04]
    """
    adjusted: list[float | None] = [None] * len(p_values)
    running = 1.0
    ranked = sorted(((p, i) for i, p in enumerate(p_values) if p is not None), reverse=True)
    for rank, (p, i) in enumerate(ranked, start=1):
        running = min(running, rank * p)
        adjusted[i] = running
    return adjusted


def seeds_needed(gain: float, spread: float, margin: float, levels: Sequence[float], *, paired: bool) -> int | None:
    """Seeds (on each side) that settle it with probability ``POWER``, were ``gain`` and ``spread`` the truth.

    Args:
        gain: mean gain.
        spread: standard deviation of one seed's gain.
        margin: on the scale of the gain.
        levels: of the test to pass, of the test for "worse".
        paired: by seed; otherwise both sides grow.

    Returns:
        The smallest number from 2 on; None: over ``MOST``.
    """
    counts = np.arange(2, MOST + 1)
    enough = np.zeros(counts.size, dtype=bool)
    for distance, level in zip((gain + margin, -gain), levels, strict=True):
        enough |= distance >= spread * _errors_apart(level, 1 if paired else 2)
    return int(counts[int(np.argmax(enough))]) if enough.any() else None


@lru_cache(maxsize=256)
def _errors_apart(level: float, sides: int) -> np.ndarray:
    """For 2 … MOST seeds on each side: how far from the null, in spreads, a gain must be to be seen."""
    counts = np.arange(2, MOST + 1)
    freedom = (counts - 1) * sides
    return np.asarray((stats.t.isf(level, freedom) + stats.t.ppf(POWER, freedom)) / np.sqrt(counts))


def _tested(
    c: Comparison, metric: Metric, margin: float, p_pass: float, p_worse: float, level: float, levels: Sequence[float]
) -> GateDecision:
    gain, m = c.gain or 0.0, margin_of_gain(metric, margin)
    half = float(stats.t.isf(LEVEL, c.freedom)) * c.error
    more = None
    if p_pass <= level:
        decision, reason = Decision.PASS, "a loss beyond the margin is ruled out"
        if p_worse <= level:
            reason = "worse, but a loss beyond the margin is ruled out"
    elif p_worse <= level:
        decision = Decision.REGRESSION
        beyond = gain + half < -m
        reason = "worse by more than the margin" if beyond else "worse, and a loss beyond the margin is not ruled out"
    else:
        decision, reason = Decision.CANNOT_TELL, "neither a loss nor its absence is shown"
        needed = seeds_needed(gain, c.spread, m, levels, paired=c.method == "paired")
        more = None if needed is None else max(1, needed - min(c.seeds))
    low, high = sorted((change(metric, gain - half), change(metric, gain + half)))
    return GateDecision(c, margin, decision, reason, change(metric, gain), low, high, p_pass, p_worse, more)


def _untested(c: Comparison, metric: Metric, margin: float) -> GateDecision:
    if c.gain is None:
        return GateDecision(c, margin, Decision.CANNOT_TELL, c.why)
    moved = change(metric, c.gain)
    if c.method == "none":
        return GateDecision(c, margin, Decision.CANNOT_TELL, c.why, moved, more_seeds=c.lacking)
    within = c.gain >= 0 or c.gain > -margin_of_gain(metric, margin) + FLAT  # a loss of the whole margin is beyond it
    if c.method == "identical":
        reason = "every number of every record is the same"
    elif c.gain == 0:
        reason = "the same on every seed"
    else:
        reason = f"no spread over seeds, and {'within' if within else 'beyond'} the margin"
    decision = Decision.PASS if within else Decision.REGRESSION
    return GateDecision(c, margin, decision, reason, moved, moved, moved)


def _levels(p_values: Sequence[float | None], level: float) -> list[float]:
    """The level at which Holm and Hochberg test each member at its present rank."""
    family = [p for p in p_values if p is not None]
    return [level / max(1, sum(p is not None and q >= p for q in family)) for p in p_values]
