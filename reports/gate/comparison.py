r"""One metric, baseline against new run: the gain per seed, its mean and its standard error.

A *gain* is positive when the new run is better; for relative metrics it is the logarithm of the ratio.

.. math::
    \bar\delta = \tfrac1n \sum_s (b_s - a_s), \; s_{\bar\delta} = s_\delta / \sqrt n \quad\text{(paired by seed)}
    \qquad
    \bar\delta = \bar b - \bar a, \; s_{\bar\delta}^2 = s_a^2 / n_a + s_b^2 / n_b \quad\text{(Welch)}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoflip_secure.reports.gate.metrics import Metric
from autoflip_secure.reports.statistics.intervals import FLAT
from autoflip_secure.reports.statistics.sample_size import unanimous
from autoflip_secure.terminal.counting import count_of

Method = Literal["identical", "exact", "paired", "unpaired", "computed", "none"]
LEVEL = 0.05  # of each promise


@dataclass(frozen=True)
class Comparison:
    """How the new run stands. ``gain`` is None where a side has no value; ``why`` says why there is no test."""

    method: Method
    seeds: tuple[int, int]  # used of the baseline, of the new run
    baseline: float | None = None  # mean over the seeds used
    new: float | None = None
    gain: float | None = None
    spread: float = 0.0  # standard deviation of one seed's gain
    error: float = 0.0  # standard error of the mean gain
    freedom: float = 0.0  # degrees of freedom
    why: str = ""
    lacking: int = 1  # seeds, where there is no test for want of them

    @property
    def tested(self) -> bool:
        """Whether it needs a test, and so belongs to the family that is corrected for."""
        return self.method in ("paired", "unpaired")


def compare(
    metric: Metric,
    old: Mapping[int, float],
    new: Mapping[int, float],
    identical: Sequence[int] = (),
    lost: Sequence[int] = (),
    level: float = LEVEL,
) -> Comparison:
    """Line up ``old`` and ``new`` (seed -> value). ``identical``: seeds whose records agree in every number.

    ``lost``: seeds of the baseline that the new run was run on, without a value of them. What cannot be measured any
    more may be what went wrong, so that the others alone tell nothing. ``level``: of the test.

    Two shared seeds or more are paired, and the others left out; otherwise two or more on each side are compared by
    Welch. *Identical* and *exact* (no spread at all) need no test; with too few seeds there is *none*. What is counted
    and the same on all seeds of a side is compared exactly, with a single seed on the other side too. What is sampled
    and stuck at one value on all seeds of a side (at a ceiling, or at chance) says as much as a sign test at ``level``.
    """
    if not old or not new:
        side = "the baseline" if not old else "the new run"
        return Comparison("none", (len(old), len(new)), why=f"not measured in {side}")
    if lost:
        seeds_run = count_of(len(set(new) | set(lost)), "seed")
        why = f"not measured on {len(lost)} of {seeds_run} of the new run, so the others alone tell nothing"
        return Comparison("none", (len(old), len(new)), why=why)
    shared = sorted(set(old) & set(new))
    same = bool(shared) and set(shared) <= set(identical)
    paired = same or len(shared) > 1 or (len(shared) == 1 and min(len(old), len(new)) == 1)
    a = np.array([old[s] for s in (shared if paired else sorted(old))])
    b = np.array([new[s] for s in (shared if paired else sorted(new))])
    seeds, means = (a.size, b.size), (float(a.mean()), float(b.mean()))
    x, y = _scale(metric, a), _scale(metric, b)
    gain = float((y - x).mean() if paired else y.mean() - x.mean())
    if same:
        return Comparison("identical", seeds, *means, gain)
    if metric.counted and _settled(old, new, gain):
        return Comparison("exact", (len(old), len(new)), *means, gain)
    if min(seeds) < 2:
        return Comparison("none", seeds, *means, gain, why="one seed shows no spread")
    return _sampled(metric, x, y, gain, means, paired=paired, level=level)


def _sampled(
    metric: Metric,
    x: np.ndarray,
    y: np.ndarray,
    gain: float,
    means: tuple[float, float],
    *,
    paired: bool,
    level: float,
) -> Comparison:
    """Two seeds or more on each side."""
    seeds = (x.size, y.size)
    flat = FLAT * max(1.0, float(np.abs(np.r_[x, y]).max()))
    spreads = [_spread(y - x)] if paired else [_spread(x), _spread(y)]
    if max(spreads) > flat:
        return Comparison("paired" if paired else "unpaired", seeds, *means, gain, *_errors(spreads, seeds))
    few = min(seeds)
    if not metric.relative and _spread(x) <= flat and few < (needed := unanimous(1 - 2 * level)):  # one-sided
        why = f"one value on every seed, and {few} are too few to rule a loss out"
        return Comparison("none", seeds, *means, gain, why=why, lacking=needed - few)
    if abs(gain) > flat and not metric.relative and few < 3:  # counts of bytes and FLOPs do not tie by luck
        return Comparison("none", seeds, *means, gain, why="two seeds may agree by chance")
    return Comparison("exact", seeds, *means, gain)


def _settled(old: Mapping[int, float], new: Mapping[int, float], gain: float) -> bool:
    """Whether a count is the same on all seeds of a side; of a single seed on both sides only where they agree."""
    constant = all(len(set(side.values())) == 1 for side in (old, new))
    return constant and (gain == 0 or max(len(old), len(new)) > 1)


def margin_of_gain(metric: Metric, margin: float) -> float:
    """The margin on the scale of the gain: of costs, 5 % more is log 1.05."""
    if not metric.relative:
        return margin
    return -math.log1p(-margin) if metric.higher_is_better else math.log1p(margin)


def change(metric: Metric, gain: float) -> float:
    """New minus baseline in the units of the metric (ratio - 1 when relative), from a gain."""
    signed = (gain if metric.higher_is_better else -gain) + 0.0
    return math.expm1(signed) if metric.relative else signed


def _scale(metric: Metric, values: np.ndarray) -> np.ndarray:
    scaled = np.log(values) if metric.relative else values
    return scaled if metric.higher_is_better else -scaled


def _errors(spreads: Sequence[float], seeds: tuple[int, int]) -> tuple[float, float, float]:
    """Spread of one seed's gain, standard error and degrees of freedom: of pairs (one spread), or Welch's (two)."""
    if len(spreads) == 1:
        return spreads[0], spreads[0] / math.sqrt(seeds[0]), seeds[0] - 1
    parts = [s**2 / n for s, n in zip(spreads, seeds, strict=True)]
    freedom = sum(parts) ** 2 / sum(p**2 / (n - 1) for p, n in zip(parts, seeds, strict=True))
    return math.hypot(*spreads), math.sqrt(sum(parts)), freedom


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1))
