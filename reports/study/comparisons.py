"""Every comparison the report prints: each condition and algorithm beside the baseline, and each algorithm over all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.intervals import Interval, bootstrap_interval, mean_interval
from autoflip_secure.reports.statistics.paired import Paired, Verdict, complete, paired
from autoflip_secure.reports.study import test_set
from autoflip_secure.reports.study.study import Condition, Study


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


@dataclass(frozen=True)
class Standing:
    """One line of the scoreboard."""

    algorithm: str
    clean: Summary | None
    attacked: Summary | None
    weakest: Row | None  # the condition in which it stands worst against the baseline
    tally: dict[Verdict, int]  # over the attacked conditions
    uplink: float | None  # bytes sent by clients in a whole run, as a share of the baseline's
    flops: dict[str, float]  # training operations (sparse, compacted) as a share of the baseline's dense ones


def compare(study: Study) -> list[Row]:
    """All rows, in reading order, corrected as one family."""
    rows, samples = [], test_set.samples(study)
    for condition in study.conditions:
        base = study.values(condition, study.baseline) if study.baseline else {}
        for algorithm in study.algorithms:
            values = study.values(condition, algorithm)
            if values:
                pair = None if algorithm == study.baseline else paired(values, base)
                own = tuple(values.values())
                interval, number = mean_interval(own, share=True), samples.get(condition.facet)
                rows.append(Row(condition, algorithm, interval, pair, own, number, study.between(condition, algorithm)))
    pairs = corrected([row.against for row in rows])
    return [replace(row, against=pair) for row, pair in zip(rows, pairs, strict=True)]


def summarise(study: Study, algorithm: str, conditions: list[Condition]) -> Summary | None:
    """Mean over ``conditions`` per seed, on the conditions and seeds that the algorithm and the baseline share."""
    base = study.baseline
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


def standings(study: Study, rows: list[Row]) -> list[Standing]:
    """The scoreboard, in the order of the algorithms; all of its differences are one family."""
    clean = [c for c in study.conditions if study.attacks[c.attack]["kind"] == "none"]
    attacked = [c for c in study.conditions if c not in clean]
    summaries = _summaries(study, [(a, kind) for a in study.algorithms for kind in (clean, attacked)])
    result = []
    for number, algorithm in enumerate(study.algorithms):
        own = [r for r in rows if r.algorithm == algorithm and r.against]
        tally = dict.fromkeys(Verdict, 0)
        for row in own:
            if row.against and row.condition in attacked:
                tally[row.against.verdict] += 1
        uplink, flops = _costs(study, algorithm)
        result.append(
            Standing(
                algorithm,
                summaries[2 * number],
                summaries[2 * number + 1],
                min(own, key=lambda r: r.against.difference.mean if r.against else 0.0, default=None),
                tally,
                uplink,
                flops,
            )
        )
    return result


def _summaries(study: Study, asked: list[tuple[str, list[Condition]]]) -> list[Summary | None]:
    """The summaries of algorithms over conditions, corrected as one family."""
    found = [summarise(study, algorithm, conditions) for algorithm, conditions in asked]
    pairs = corrected([summary.against if summary else None for summary in found])
    return [None if s is None else replace(s, against=pair) for s, pair in zip(found, pairs, strict=True)]


def _costs(study: Study, algorithm: str) -> tuple[float | None, dict[str, float]]:
    """Shares of the baseline's cost, averaged over the pairs of runs."""
    if study.baseline is None:
        return None, {}
    partner = {
        (row.facet, row.attack, row.seed): record.costs for row, record in study.rows if row.algorithm == study.baseline
    }
    shares: list[dict[str, float]] = []
    for row, record in study.rows:
        base = partner.get((row.facet, row.attack, row.seed))
        if row.algorithm != algorithm or base is None or not base.bytes.uplink_values:
            continue
        own = record.costs
        share = {"uplink": own.bytes.uplink_values / base.bytes.uplink_values}
        for kind, flops in (("sparse", own.flops.sparse), ("compacted", own.flops.compacted)):
            if flops is not None and base.flops.dense:
                share[kind] = flops / base.flops.dense
        shares.append(share)
    if not shares:
        return None, {}
    means = pd.DataFrame(shares).mean().to_dict()
    return float(means.pop("uplink")), {str(k): float(v) for k, v in means.items()}
