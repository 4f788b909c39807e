"""The t interval of a mean over seeds or clients, the same one wherever it is stated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

LEVEL = 0.95


def half_width(values: Sequence[float], level: float = LEVEL) -> float:
    """Half the width of the t interval of the mean of ``values`` at ``level``; infinite for one value.

    >>> round(half_width([1.0, 2.0, 3.0]), 4)
    2.4841
    """
    if len(values) < 2:
        return math.inf
    spread = float(np.asarray(values, dtype=float).std(ddof=1))
    return float(_quantile((1 + level) / 2, len(values) - 1) * spread / math.sqrt(len(values)))


@cache
def _quantile(share: float, degrees: int) -> np.float64:
    from scipy.stats import t

    quantile: np.float64 = t.ppf(share, degrees)
    return quantile
