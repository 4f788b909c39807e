r"""How far apart the worst cases of two defences are, at the same seeds, whichever attacks are the worst of each.

With :math:`\theta_a = \min_j \mu_{aj}`, one-sided t bounds :math:`L_{jk}` of :math:`\mu_{aj} - \mu_{bk}` at level
:math:`1 - \alpha / (2 J_b)` and :math:`U_{jk}` at :math:`1 - \alpha / (2 J_a)` from paired differences,

.. math::
    \max_k \min_j L_{jk} \;\le\; \theta_a - \theta_b \;\le\; \min_j \max_k U_{jk}

with probability :math:`1 - \alpha` at least: below only the bounds of the attack :math:`j` that is truly the worst of a
can fail, one for every k, hence Bonferroni's :math:`J_b`; above alike. The p-values are those that belong to these ends
(:func:`.above_p`). The mean over seeds of each seed's lowest accuracy is no worst case: it is lower for the
defence with the larger spread, though no attack leaves less of it.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from autoflip_secure.records.t_interval import LEVEL
from autoflip_secure.reports.statistics.intervals import FLAT, MARGIN, Interval
from autoflip_secure.reports.statistics.paired import Paired, Verdict, judge
from autoflip_secure.reports.statistics.sample_size import stuck
from autoflip_secure.reports.statistics.worst_case import Tried, above_p_of


def worst_difference(a: Tried, b: Tried, *, margin: float = MARGIN, level: float = LEVEL) -> Paired | None:
    """Worst case of ``a`` minus that of ``b``, on the seeds that all attacks on both have; None: there is no such seed.

    ``differences`` are those between the two attacks with the lowest means, for planning; there is neither an effect
    size nor a test of ranks, since they would count the choice of these two as evidence.

    >>> steady = {seed: 0.5 + seed / 100 for seed in range(6)}
    >>> found = worst_difference({"x": steady, "y": {s: 0.9 for s in steady}}, {"x": {s: 0.0 for s in steady}})
    >>> round(found.difference.mean, 3), found.verdict.value
    (0.525, 'better')
    """
    seeds = sorted(set.intersection(*(set(values) for side in (a, b) for values in side.values())))
    if not seeds:
        return None
    x, y = (np.array([[values[seed] for seed in seeds] for values in side.values()]) for side in (a, b))
    between = x[:, None] - y[None]  # attacks on a, attacks on b, seeds
    chosen = between[x.mean(axis=1).argmin(), y.mean(axis=1).argmin()]
    values = tuple(float(d) for d in chosen)
    if len(seeds) < 2:
        alone = Interval(values[0], None, None, 1, "one seed gives no interval")
        return Paired(alone, None, None, None, judge(alone, margin, level), None, values, level, margin)
    turned = -between.transpose(1, 0, 2)
    alpha = (1 - level) / 2
    interval = Interval(float(chosen.mean()), _bound(between, alpha), -_bound(turned, alpha), len(seeds))
    direction = min(1.0, 2 * min(above_p_of(x, y), above_p_of(y, x)))
    same = x.shape == y.shape and np.abs(x - y).max() <= FLAT
    unsure = same and all(stuck(row, level) for row in x.tolist())
    equal = 0.0 if same else max(above_p_of(x + margin, y), above_p_of(y + margin, x))
    verdict = Verdict.CANNOT_TELL if unsure else judge(interval, margin, level)
    return Paired(interval, direction, None, None, verdict, None, values, level, margin, None if unsure else equal)


def _bound(between: np.ndarray, alpha: float) -> float:
    """Lower end of the difference of worst cases."""
    seeds = between.shape[-1]
    errors = between.std(axis=-1, ddof=1) / np.sqrt(seeds)
    lower = between.mean(axis=-1) - stats.t.isf(alpha / between.shape[1], seeds - 1) * errors
    return float(lower.min(axis=0).max())
