r"""Means over seeds with 95 % intervals: Student's t, and the bootstrap as a second opinion (Efron's BCa, 1987).

.. math:: \bar x \pm t_{1-\alpha/2,\,n-1}\; s / \sqrt n

Words rest on t. With the handful of seeds of a usual sweep the bootstrap covers less than it promises (measured in the
tests and in ``docs/statistics.md``); where the two disagree by much, the values are skewed or one seed stands apart.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from autoflip_secure.records.t_interval import LEVEL, half_width

MARGIN = 0.005  # half a point of accuracy: differences that stay inside are called equal
FLAT = 1e-12  # spread below which seeds count as identical
UNDECIDED = "cannot tell"  # the word where the evidence supports none
RESAMPLES = 9999
_ADDRESS = (1987, 1)  # where the resampling indices are drawn: the same data always give the same interval


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds; ``low`` and ``high`` are None when there is no interval, and ``reason`` says why."""

    mean: float
    low: float | None
    high: float | None
    n: int
    reason: str = ""


def mean_interval(values: Sequence[float], level: float = LEVEL, *, share: bool = False) -> Interval:
    """Mean and t interval of ``values`` (one per seed); of a ``share``, the part of the interval that lies in [0, 1].

    Raises:
        ValueError: no value at all.

    >>> mean_interval([1.0, 2.0, 3.0]).mean
    2.0
    >>> mean_interval([0.9]).reason
    'one seed gives no interval'
    """
    data = _data(values)
    mean = float(data.mean())
    if data.size == 1:
        return Interval(mean, None, None, 1, "one seed gives no interval")
    half = half_width(data.tolist(), level)
    return _within(Interval(mean, mean - half, mean + half, data.size), share)


def bootstrap_interval(values: Sequence[float], level: float = LEVEL, *, share: bool = False) -> Interval:
    """Mean and BCa bootstrap interval (:func:`scipy.stats.bootstrap`), the same at every call.

    There is none for fewer than three values (leaving one out must leave a mean of at least two), for values without
    spread (every resample is the same), and where the correction has no answer; ``reason`` says which.

    Raises:
        ValueError: no value at all.

    >>> bootstrap_interval([0.8, 0.9]).reason
    'the bootstrap needs at least three seeds, here 2'
    """
    data = _data(values)
    mean = float(data.mean())
    if data.size < 3:
        return Interval(mean, None, None, data.size, f"the bootstrap needs at least three seeds, here {data.size}")
    if float(data.std(ddof=1)) < FLAT:
        return Interval(mean, None, None, data.size, "all seeds gave the same value: there is nothing to resample")
    generator = np.random.default_rng(np.random.SeedSequence(_ADDRESS[0], spawn_key=_ADDRESS[1:]))
    with warnings.catch_warnings():  # a degenerate distribution gives NaN ends, which are answered below
        warnings.simplefilter("ignore")
        ends = stats.bootstrap(
            (data,), np.mean, confidence_level=level, n_resamples=RESAMPLES, method="BCa", rng=generator
        ).confidence_interval
    low, high = float(ends.low), float(ends.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return Interval(mean, None, None, data.size, "the bootstrap's bias correction is undefined for these values")
    return _within(Interval(mean, low, high, data.size), share)


def _data(values: Sequence[float]) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("an interval needs at least one value, got none")
    return data


def _within(interval: Interval, share: bool) -> Interval:
    if not share or interval.low is None or interval.high is None:
        return interval
    return Interval(interval.mean, max(0.0, interval.low), min(1.0, interval.high), interval.n)
