r"""What changed between two sweeps A and B, per condition and algorithm, on the cells that both have.

.. math:: \text{change} = A_s - B_s \quad\text{(same configuration, same seed } s\text{)}

The words follow the interval of the paired changes, as everywhere in the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.comparison.matching import Matching, numbers
from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.statistics.paired import Paired, Verdict, paired
from autoflip_secure.reports.study.labels import percent
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.tables.text import Table, percents
from autoflip_secure.reports.wording.phrases import judgement, short_verdict
from autoflip_secure.terminal.counting import count_of

TOLD = 3  # settings named in the answer; the table has all
Pairs = dict[int, tuple[RunRecord, RunRecord]]  # seed -> (A, B)


@dataclass(frozen=True)
class Change:
    """One algorithm under one condition, in both sweeps, on the seeds that both have."""

    condition: Condition
    algorithm: str
    first: Interval  # accuracy
    second: Interval
    accuracy: Paired
    bytes: tuple[float, float]  # megabytes sent and received in a run, mean over seeds
    flops: tuple[float | None, float | None]  # 10⁹ operations of living weights in a run; None: not counted
    auc: tuple[float | None, float | None]  # detection, mean over seeds
    auc_change: Paired | None


def compare_pairs(found: Study, matching: Matching) -> list[Change]:
    """One row per condition and algorithm, in reading order, corrected as one family."""
    partner = {a.cell: b for a, b in matching.pairs}
    rows = []
    for condition in found.conditions:
        for algorithm in found.algorithms:
            pairs = {r.seed: (r, partner[r.cell]) for r in found.runs(condition, algorithm)}
            accuracy = _paired(pairs, found.accuracy)
            if accuracy is None:
                continue
            ends = [mean_interval([found.accuracy(pair[i]) for pair in pairs.values()], share=True) for i in (0, 1)]
            rows.append(
                Change(
                    condition, algorithm, ends[0], ends[1], accuracy,
                    bytes=_both(pairs, lambda r: (r.costs.bytes.uplink_values + r.costs.bytes.downlink_values) / 1e6),
                    flops=_means(pairs, lambda r: None if (f := r.costs.flops.sparse) is None else f / 1e9),
                    auc=_means(pairs, lambda r: r.detection_auc),
                    auc_change=_paired(pairs, lambda r: r.detection_auc),
                )
            )  # fmt: skip
    judged = corrected([row.accuracy for row in rows])
    return [replace(row, accuracy=pair) for row, pair in zip(rows, judged, strict=True) if pair is not None]


def _paired(pairs: Pairs, value: Callable[[RunRecord], float | None]) -> Paired | None:
    both = {seed: (value(a), value(b)) for seed, (a, b) in pairs.items()}
    one = {seed: a for seed, (a, b) in both.items() if a is not None and b is not None}
    two = {seed: b for seed, (a, b) in both.items() if a is not None and b is not None}
    return paired(one, two, same_runs=all(numbers(a) == numbers(b) for a, b in pairs.values()))


def _both(pairs: Pairs, value: Callable[[RunRecord], float]) -> tuple[float, float]:
    return (
        float(np.mean([value(a) for a, _ in pairs.values()])),
        float(np.mean([value(b) for _, b in pairs.values()])),
    )


def _means(pairs: Pairs, value: Callable[[RunRecord], float | None]) -> tuple[float | None, float | None]:
    sides = [[v for pair in pairs.values() if (v := value(pair[i])) is not None] for i in (0, 1)]
    one, two = (float(np.mean(side)) if side else None for side in sides)
    return one, two


def headline(matching: Matching, rows: Sequence[Change]) -> str:
    """What changed, in one line."""
    if matching.identical:
        return f"Nothing changed: all {len(matching.pairs)} cells give exactly the same numbers"
    if not matching.changed:
        count = count_of(len(matching.pairs), "cell")
        return f"The {count} in both sweeps: exactly the same numbers; the others are in one of them only"
    tally = Counter(row.accuracy.verdict for row in rows)
    words = [f"{short_verdict(v)} in {tally[v]}" for v in (Verdict.BETTER, Verdict.WORSE) if tally[v]]
    total = count_of(len(rows), "comparison")
    if not words:
        return f"A against B: no change in accuracy that these seeds can show, in {total}"
    return f"A against B: accuracy {', '.join(words)} of {total}"


def sentences(matching: Matching, rows: Sequence[Change], outcome: OutcomeRule = DEFAULT) -> list[str]:
    """The answer below the headline."""
    pairs, changed = len(matching.pairs), len(matching.changed)
    left = len(matching.only_first), len(matching.only_second)
    text = f"{count_of(pairs, 'cell')} {'is' if pairs == 1 else 'are'} in both, matched by configuration and seed"
    if any(left):
        text += f"; {left[0]} only in A, {left[1]} only in B"
    found = [f"{text}. {_count(changed, pairs)}"]
    if not changed:
        return found + _settings(matching)
    tally = Counter(row.accuracy.verdict for row in rows)
    words = [f"{short_verdict(v)} in {tally[v]}" for v in Verdict if tally[v]]
    found.append(
        f"Accuracy of A against B, condition by condition and algorithm by algorithm: {', '.join(words)}. "
        f"In both it is {outcome.words} of a run."
    )
    largest = max(rows, key=lambda r: abs(r.accuracy.difference.mean))
    if largest.accuracy.difference.mean:
        found.append(
            f"Largest change: {largest.algorithm} under {largest.condition}, {percent(largest.second.mean)} in B and "
            f"{percent(largest.first.mean)} in A: {judgement(largest.accuracy)}."
        )
    costs = [(name, _ratio(rows, key)) for name, key in (("bytes", "bytes"), ("operations", "flops"))]
    said = [f"{name} {100 * (ratio - 1):+.1f} %".replace("-", "−") for name, ratio in costs if abs(ratio - 1) > 5e-4]
    found.append(f"Cost of A against B over all of them: {', '.join(said)}." if said else "The costs are the same.")
    why = _settings(matching)
    if not matching.settings:
        from_where = "the machine or a change of the code" if not why else "those, the machine or a change of the code"
        why.append(f"The settings are equal, so what differs comes from {from_where}.")
    return found + why


def _settings(matching: Matching) -> list[str]:
    found = []
    for what, differences in (("Settings", matching.settings), ("Versions", matching.versions)):
        told = [
            f"{d.path} is {d.first} in A and {d.second} in B"
            + (f" ({', '.join(d.algorithms)})" if d.algorithms else "")
            for d in differences[:TOLD]
        ]
        more = f"; and {len(differences) - TOLD} more" if len(differences) > TOLD else ""
        found += [f"{what} differ: {'; '.join(told)}{more}."] if told else []
    return found


def _count(changed: int, pairs: int) -> str:
    if not changed:
        return "All of them give exactly the same numbers, round by round."
    if changed == pairs:
        return "None of them gives exactly the same numbers."
    return f"{changed} of them give{'s' if changed == 1 else ''} different numbers, {pairs - changed} exactly the same."


def _ratio(rows: Sequence[Change], key: str) -> float:
    known = [ends for row in rows if None not in (ends := getattr(row, key))]
    one, two = (sum(ends[i] for ends in known) for i in (0, 1))
    return one / two if two else 1.0


def change_table(rows: Sequence[Change]) -> Table:
    """Every row with every digit. Accuracies in per cent, changes in points."""
    columns = ["partition", "attack", "algorithm", "accuracy A (%)", "accuracy B (%)", "change (points)", "low", "high"]
    columns += ["pairs", "p t", "p t Holm", "verdict", "MB A", "MB B", "10⁹ FLOPs A", "10⁹ FLOPs B"]
    columns += ["AUC A", "AUC B", "AUC change", "AUC low", "AUC high"]
    data: list[list[Any]] = []
    for row in rows:
        change, auc = row.accuracy.difference, row.auc_change.difference if row.auc_change else None
        line: list[Any] = [row.condition.facet, row.condition.attack, row.algorithm]
        line += [100 * row.first.mean, 100 * row.second.mean, *percents(change), change.n]
        line += [row.accuracy.t_p, row.accuracy.t_holm, row.accuracy.verdict.value]
        line += [*row.bytes, *row.flops, *row.auc]
        data.append(line + ([auc.mean, auc.low, auc.high] if auc else [None] * 3))
    return Table(columns, data)
