r"""The worst case of a suite of attacks: the lowest mean over seeds, its interval, and ranks that the seeds support.

An attack :math:`j` of :math:`J` leaves a mean accuracy :math:`\mu_j`, of which :math:`n` seeds show :math:`\bar x_j`
with standard error :math:`e_j`. The worst case is :math:`\theta = \min_j \mu_j`; its estimate is
:math:`\min_j \bar x_j` (never the mean over seeds of each seed's lowest accuracy, which chance alone makes lower), its
interval

.. math::
    \Big[\min_j \big(\bar x_j - t_{1-\alpha/2,\,n_j-1}\, e_j\big),\;
    \min_j \big(\bar x_j + t_{1-\alpha/(2J),\,n_j-1}\, e_j\big)\Big]

At the lower end one of the :math:`J` bounds, that of the truly worst attack, already lies below :math:`\theta` with
probability :math:`1 - \alpha/2`, so the lowest does (no correction is due). The upper end fails if any of the :math:`J`
bounds lies below :math:`\theta`, hence Bonferroni's. Together they cover :math:`\theta` with probability
:math:`1 - \alpha` at least, however runs under different attacks depend on each other (they share their seeds).

**Ranks.** Defence :math:`a` stands above :math:`b` if some attack on :math:`b` leaves less than every attack on
:math:`a`: of the paired one-sided p-values,
:math:`p_{ab} = \min(1,\, J_b \min_k \max_j p(\mu_{aj} > \mu_{bk}))`, a union over :math:`k` (Bonferroni) of
intersections over :math:`j`. Holm's correction over all ordered pairs keeps the
probability of any false "above" below :math:`\alpha`; the rank of :math:`a` lies between one more than how many stand
above it and the number of defences less those below it, for all defences at once (after Mohamad, Goeman and van Zwet,
2022). A sentence about ranks in several settings takes those that are corrected for the pairs of all settings, since
one false "above" in any of them makes it false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from scipy import stats

from autoflip_secure.records.t_interval import LEVEL
from autoflip_secure.reports.statistics.intervals import FLAT, Interval, mean_interval
from autoflip_secure.reports.statistics.paired import holm

Tried = Mapping[str, Mapping[int, float]]  # attack -> seed -> accuracy
Rank = tuple[int, int]  # best and worst that the seeds leave possible


@dataclass(frozen=True)
class Worst:
    """The worst case of one defence."""

    attack: str  # the one with the lowest mean
    accuracy: Interval  # mean under that attack, and the interval of the worst case
    attacks: int  # that were compared


def worst_case(tried: Tried, level: float = LEVEL) -> Worst:
    """The attack with the lowest mean over seeds (among equals the first), and the interval of the worst case.

    There is no interval unless every attack has at least two seeds.

    Raises:
        ValueError: no attack, or one without any seed.

    >>> worst_case({"a": {1: 0.5, 2: 0.6}, "b": {1: 0.4, 2: 0.5}}).attack
    'b'
    """
    if not tried or not all(tried.values()):
        raise ValueError("a worst case needs at least one attack, and each attack at least one seed")
    sides = {attack: tuple(values.values()) for attack, values in tried.items()}
    means = {attack: float(np.mean(values)) for attack, values in sides.items()}
    worst = min(means, key=lambda attack: means[attack])
    seeds = min(map(len, sides.values()))
    if seeds < 2:
        return Worst(worst, Interval(means[worst], None, None, seeds, "one seed gives no interval"), len(sides))
    lower = [mean_interval(values, level).low for values in sides.values()]
    upper = [mean_interval(values, 1 - (1 - level) / len(sides)).high for values in sides.values()]
    low, high = (min(end for end in ends if end is not None) for ends in (lower, upper))
    return Worst(worst, Interval(means[worst], max(0.0, low), min(1.0, high), seeds), len(sides))


def above_p(a: Tried, b: Tried) -> float:
    """p-value against "the worst case of ``a`` is not above that of ``b``", from differences at the same seeds."""
    if len({tuple(values) for values in (*a.values(), *b.values())}) == 1:  # all at the same seeds, in their order
        return above_p_of(*(np.array([[*values.values()] for values in side.values()]) for side in (a, b)))
    candidates = [max(_greater_p(one, other) for one in a.values()) for other in b.values()]
    return min(1.0, len(candidates) * min(candidates))


def above_p_of(a: np.ndarray, b: np.ndarray) -> float:
    """:func:`above_p` of accuracies at the same seeds, (attacks, seeds) each."""
    found = _greater_ps(a, b)
    return float(min(1.0, found.shape[1] * float(found.max(axis=0).min())))


def _greater_ps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """:func:`_greater_p` of every row of ``a`` (attacks, seeds) against every row of ``b``: (attacks, attacks)."""
    differences = a[:, None] - b[None]
    seeds = differences.shape[-1]
    if seeds < 2:
        return np.ones(differences.shape[:2])
    means, spreads = differences.mean(axis=-1), differences.std(axis=-1, ddof=1)
    flat = spreads < FLAT
    found = stats.t.sf(means / (np.where(flat, 1.0, spreads) / np.sqrt(seeds)), seeds - 1)
    return np.where(flat, np.where(means > FLAT, 0.5**seeds, 1.0), found)


def _greater_p(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """One-sided paired t test that ``one`` is larger on average; without spread a sign test; 1 with too few seeds."""
    differences = np.array([one[seed] - other[seed] for seed in sorted(set(one) & set(other))])
    if differences.size < 2:
        return 1.0
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread < FLAT:
        return 0.5**differences.size if mean > FLAT else 1.0
    return float(stats.t.sf(mean / (spread / np.sqrt(differences.size)), differences.size - 1))


class Ranks(NamedTuple):
    """Defence -> its rank in one setting."""

    alone: dict[str, Rank]  # corrected for all pairs of the setting
    together: dict[str, Rank]  # corrected for all pairs of all settings


def ranks_of_all(settings: Sequence[Mapping[str, Tried]], level: float = LEVEL) -> list[Ranks]:
    """Best and worst rank of every defence that the seeds leave possible, in each of several settings, each by itself
    and all of them at once; 1 is the highest worst case.

    >>> steady = {seed: 0.8 + seed / 1000 for seed in range(9)}
    >>> own = {"a": {"x": {s: v - 0.5 for s, v in steady.items()}}, "b": {"x": steady}}
    >>> ranks_of_all([own])[0].alone
    {'a': (2, 2), 'b': (1, 1)}
    """
    found = [{(a, b): above_p(own[a], own[b]) for a in own for b in own if a != b} for own in settings]
    every = iter(holm([p for ps in found for p in ps.values()]))
    return [
        Ranks(*(_ranked([*own], ps, adjusted, level) for adjusted in (holm([*ps.values()]), [*islice(every, len(ps))])))
        for own, ps in zip(settings, found, strict=True)
    ]


def _ranked(
    names: Sequence[str], pairs: Mapping[tuple[str, str], float], adjusted: Sequence[float | None], level: float
) -> dict[str, Rank]:
    above = {pair for pair, p in zip(pairs, adjusted, strict=True) if p is not None and p <= 1 - level}
    return {
        name: (
            1 + sum((other, name) in above for other in names),
            len(names) - sum((name, other) in above for other in names),
        )
        for name in names
    }
