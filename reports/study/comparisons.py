"""Every comparison the report prints: each condition and algorithm beside the baseline, and each algorithm over all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.intervals import Interval, bootstrap_interval, mean_interval
from autoflip_secure.reports.statistics.paired import Paired, complete, paired
from autoflip_secure.reports.statistics.worst_case import Rank, Ranks, ranks_of_all
from autoflip_secure.reports.study import test_set
from autoflip_secure.reports.study.perplexity import perplexity_over
from autoflip_secure.reports.study.study import Condition, Study

MOST_RANKED = 40  # algorithms under a condition: of more, every pair would take seconds


@dataclass(frozen=True)
class Row:
    """One algorithm under one condition; its word is corrected for all rows of the table."""

    condition: Condition
    algorithm: str
    accuracy: Interval
    against: Paired | None  # None: it is the baseline, or no seed has both
    accuracies: tuple[float, ...] = ()  # one per seed
    samples: int | None = None  # of the test set that all seeds share; None: cannot be told
    between_clients: tuple[float, float] | None = None  # worst client, standard deviation; None: no personal evaluation
    rank: Rank | None = None  # best and worst under this condition that the seeds leave possible
    place: Rank | None = None  # the same, corrected for all conditions too: what a sentence about several may say
    ranked: int = 0  # algorithms among which; 0: none are
    perplexity: Interval | None = None  # of models of text, geometric mean over seeds; None: of others

    @property
    def standing(self) -> str:
        """The rank in words: ``2``, ``1–5``, or that the seeds tell it from none of the others."""
        return _standing(self.rank, self.ranked)

    @property
    def placing(self) -> str:
        """The place in the same words."""
        return _standing(self.place, self.ranked)

    @property
    def anywhere(self) -> Interval | None:
        """The interval of the accuracy over seeds and test samples; ``accuracy`` is over seeds, on these samples."""
        return None if self.samples is None else test_set.widened(self.accuracy, self.samples)

    @cached_property
    def bootstrap(self) -> Interval:
        """The BCa interval of the accuracy, beside the t interval that the words rest on."""
        return bootstrap_interval(self.accuracies, share=True)


@dataclass(frozen=True)
class Summary:
    """One algorithm over all clean, or all attacked, conditions: per seed the mean over conditions, then over seeds."""

    accuracy: Interval
    reference: Interval  # the baseline's, on the same conditions and seeds
    against: Paired | None
    conditions: int


def compare(study: Study) -> list[Row]:
    """All rows, in reading order, corrected as one family."""
    rows, samples, ranked = [], test_set.samples(study), _ranks(study)
    for condition in study.conditions:
        base = study.values(condition, study.baseline) if study.baseline else {}
        found = ranked.get(condition, Ranks({}, {}))
        for algorithm in study.algorithms:
            values = study.values(condition, algorithm)
            if values:
                pair = None if algorithm == study.baseline else paired(values, base)
                own = tuple(values.values())
                interval, number = mean_interval(own, share=True), samples.get(condition.facet)
                rows.append(
                    Row(
                        condition, algorithm, interval, pair, own, number,
                        between_clients=study.between(condition, algorithm),
                        rank=found.alone.get(algorithm),
                        place=found.together.get(algorithm),
                        ranked=len(found.alone),
                        perplexity=perplexity_over(study.runs(condition, algorithm), study.outcome),
                    )
                )  # fmt: skip
    pairs = corrected([row.against for row in rows])
    return [replace(row, against=pair) for row, pair in zip(rows, pairs, strict=True)]


def _ranks(study: Study) -> dict[Condition, Ranks]:
    """Condition -> ranks of all algorithms under it; of none with too many, or nothing to tell apart: an algorithm
    alone, or one with a single seed."""
    found = {}
    for condition in study.conditions:
        own = {a: {"": values} for a in study.algorithms if (values := study.values(condition, a))}
        if 2 <= len(own) <= MOST_RANKED and all(len(values[""]) > 1 for values in own.values()):
            found[condition] = own
    return dict(zip(found, ranks_of_all([*found.values()]), strict=True))


def _standing(rank: Rank | None, ranked: int) -> str:
    if rank is None:
        return ""
    low, high = rank
    if (low, high) == (1, ranked):
        return "not distinguishable"
    return f"{low} of {ranked}" if low == high else f"{low}–{high} of {ranked}"


def summarise(study: Study, algorithm: str, conditions: list[Condition], base: str | None) -> Summary | None:
    """Mean over ``conditions`` per seed, on the conditions and seeds that the algorithm and ``base`` share."""
    own = {c: study.values(c, algorithm) for c in conditions}
    other = {c: study.values(c, base) for c in conditions} if base else own
    both = {c: {seed: v for seed, v in own[c].items() if seed in other[c]} for c in conditions}
    used, full = complete(both)
    if not used:
        return None
    mine = {s: sum(own[c][s] for c in used) / len(used) for s in full}
    theirs = {s: sum(other[c][s] for c in used) / len(used) for s in full}
    against = paired(mine, theirs) if base and algorithm != base else None
    own_mean, reference = (mean_interval(list(side.values()), share=True) for side in (mine, theirs))
    return Summary(own_mean, reference, against, len(used))
