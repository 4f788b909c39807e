r"""How much final masks have in common: between seeds, and between numbers of explorers at the same seed.

The overlap is the Jaccard index of the prunable weights that two runs leave alive. Beside it stands that of two masks
with as many weights alive in each tensor, at random places: with n weights in a tensor, shares a and b of them alive,

.. math:: \frac{\sum n\, a b}{\sum n\, (a + b - a b)}

Seeds differ in everything that is drawn (initial weights, data of clients, cohorts), so masks of two seeds agree only
in what belongs to the data and the network. Every pair of seeds shares its runs with others: pairs have a mean, a
lowest and a highest value, and no interval. Between numbers of explorers every seed gives one value, and they have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Literal

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.clean_twins import mask_overlap
from autoflip_secure.reports.study.labels import NO_ATTACK
from autoflip_secure.reports.study.study import Condition, Study

EXPLORERS = "exploration.explorers"
SEEDS = 20  # of which all pairs are counted, the first ones
Pair = tuple[RunRecord, RunRecord]


@dataclass(frozen=True)
class Overlap:
    """Of one algorithm in one setting, without attack."""

    between: Literal["seeds", "explorers"]
    facet: str
    algorithm: str
    other: str  # explorers: the algorithm whose mask it is compared with; "": its own at another seed
    value: Interval  # over seeds; between seeds without ends
    lowest: float
    highest: float
    chance: float  # of as many at random places, mean
    pairs: int  # of runs


def overlaps(study: Study) -> list[Overlap]:
    """All that the records tell, between seeds first."""
    facets = [f for f in study.facets if Condition(f, NO_ATTACK) in study.conditions]
    runs = {(f, a): study.runs(Condition(f, NO_ATTACK), a) for f in facets for a in study.algorithms}
    found = [_overlap("seeds", f, a, "", [*combinations(own[:SEEDS], 2)]) for (f, a), own in runs.items()]
    for facet in facets:
        for algorithm in study.algorithms:
            most = most_explorers(study, algorithm)
            if most is not None and most != algorithm:
                others = {run.seed: run for run in runs[facet, most]}
                pairs = [(run, others[run.seed]) for run in runs[facet, algorithm] if run.seed in others]
                found.append(_overlap("explorers", facet, algorithm, most, pairs))
    return [one for one in found if one is not None]


def chance(pair: Pair) -> float | None:
    """The overlap of masks with as many weights alive in each hidden tensor, at random places; None: no such tensor."""
    both = either = 0.0
    for mine, other in zip(*([layer for layer in run.layers if layer.hidden] for run in pair), strict=True):
        a, b = (layer.live_weights / layer.weights for layer in (mine, other))
        both += mine.weights * a * b
        either += mine.weights * (a + b - a * b)
    return both / either if either else None


def _overlap(
    between: Literal["seeds", "explorers"], facet: str, algorithm: str, other: str, pairs: Sequence[Pair]
) -> Overlap | None:
    values, by_chance = list[float](), list[float]()
    for pair in pairs:
        value, random = mask_overlap(*pair), chance(pair)
        if value is not None and random is not None:
            values.append(value)
            by_chance.append(random)
    if not values:
        return None
    interval = mean_interval(values, share=True)
    if between == "seeds":
        interval = Interval(interval.mean, None, None, len(values), "pairs of seeds share their runs")
    return Overlap(between, facet, algorithm, other, interval, min(values), max(values), fmean(by_chance), len(values))


def most_explorers(study: Study, algorithm: str) -> str | None:
    """Of the settings that differ from ``algorithm`` in the number of explorers alone, the one with most (none: all
    clients); None: it explores nothing, or there is no other."""
    own = study.variants[algorithm]
    alike = [
        other
        for other in study.algorithms
        if EXPLORERS in own
        and study.families[other] == study.families[algorithm]
        and {**study.variants[other], EXPLORERS: None} == {**own, EXPLORERS: None}
    ]
    counts = {other: study.variants[other].get(EXPLORERS) or float("inf") for other in alike}
    return max(counts, key=lambda other: counts[other]) if len(counts) > 1 else None
