r"""Wilcoxon's signed ranks, exact with ties: each rank is positive or negative with probability one half.

.. math:: W = \sum_{d_i > 0} r_i, \qquad p = \min\big(1,\; 2 \min(P(W \le w), P(W \ge w))\big)

Zeros are dropped, equal sizes share the mean of their ranks (accuracies on a small test set tie often). The
distribution is counted, not approximated, so five seeds can never reach p < 0.0625.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

_EXACT = 60  # differences; above, the counts leave what a double holds exactly, and the normal approximation is good


def signed_rank_p(differences: Sequence[float]) -> float | None:
    """Two-sided p-value that ``differences`` are symmetric about zero; None when all of them are zero.

    >>> signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5])
    0.0625
    """
    data = np.round(np.asarray(differences, dtype=float), 12)  # equal but for rounding: equal
    data = data[data != 0]
    if not data.size:
        return None
    if data.size > _EXACT:
        return float(stats.wilcoxon(data, method="approx").pvalue)
    doubled = np.rint(2 * stats.rankdata(np.abs(data))).astype(int)  # mean ranks are halves
    ways = np.zeros(int(doubled.sum()) + 1)
    ways[0] = 1
    for rank in doubled:
        ways[rank:] = ways[rank:] + ways[: ways.size - rank]
    w = int(doubled[data > 0].sum())
    tail = min(ways[: w + 1].sum(), ways[w:].sum())
    return float(min(1.0, 2 * tail / 2.0**data.size))
