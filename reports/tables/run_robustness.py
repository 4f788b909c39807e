"""Robustness beside the outcome as tables: words for the page, every digit for the CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.run_robustness import Row
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.wording.run_robustness import recovered

_SHARES = {
    "final": "final (%)",
    "late": "last 10 (%)",
    "spread": "spread (points)",
    "worst_class": "worst class (%)",
    "attacked_class": "attacked class (%)",
    "attacked_class_clean": "the same, no attack (%)",
    "false_positives": "honest flagged (%)",
    "density": "weights alive (%)",
    "overlap": "mask overlap (%)",
}
"""Measure -> heading, in the order of the columns; what all rows lack is left out."""
_NAMES = {
    "final": "final accuracy",
    "late": "accuracy, last 10 rounds",
    "spread": "spread over the last 10 rounds",
    "worst_class": "accuracy of the worst class",
    "attacked_class": "accuracy of the attacked class",
    "attacked_class_clean": "accuracy of the attacked class, clean run",
    "false_positives": "false positive rate",
    "density": "density",
    "overlap": "mask overlap with the clean run",
    "amplification": "trust amplification",
}


@dataclass(frozen=True)
class Cell:
    """One number on the page."""

    value: str
    interval: str
    sort: float | None
    alarm: bool = False


Of = TypeVar("Of")  # what a line is about


@dataclass(frozen=True)
class Line(Generic[Of]):
    """One row on the page; None: the number does not exist for it."""

    row: Of
    cells: list[Cell | None]


@dataclass(frozen=True)
class PageTable(Generic[Of]):
    """A table of the page, with a line for each of some things."""

    columns: list[str]
    lines: list[Line[Of]]


def page_table(rows: Sequence[Row]) -> PageTable[Row]:
    """``rows`` in words, with the columns that some row has; weights and masks only where something is pruned."""
    pruned = any(row.density and row.density.mean < 1 for row in rows)
    shares = [
        name
        for name in _SHARES
        if any(getattr(row, name) for row in rows) and (pruned or name not in ("density", "overlap"))
    ]
    columns = [_SHARES[name] for name in shares]
    trusted, ends = any(row.amplification for row in rows), any(row.recoveries for row in rows)
    columns += [*(["trust amplification"] if trusted else []), *(["recovery (rounds)"] if ends else [])]
    lines = []
    for row in rows:
        cells = [number_cell(getattr(row, name), 100, 1) for name in shares]
        cells += [number_cell(row.amplification, 1, 2, alarm=row.alarm)] if trusted else []
        cells += [_recovery(row)] if ends else []
        lines.append(Line(row, cells))
    return PageTable(columns, lines)


def number_cell(interval: Interval | None, scale: float, digits: int, *, alarm: bool = False) -> Cell | None:
    """A mean with its interval, ``scale`` times, in so many decimals; None: there is none."""
    if interval is None:
        return None
    between = ""
    if interval.low is not None and interval.low == interval.high:
        between = f"in all {interval.n} seeds"
    elif interval.low is not None and interval.high is not None:
        between = f"[{scale * interval.low:.{digits}f}, {scale * interval.high:.{digits}f}]"
    return Cell(f"{scale * interval.mean:.{digits}f}", between, interval.mean, alarm)


def _recovery(row: Row) -> Cell | None:
    said = recovered(row)
    if said is None:
        return None
    known = [one.rounds if one.rounds is not None else one.watched + 1 for one in row.recoveries]
    return Cell(*said, sum(known) / len(known))


def exact_table(rows: Sequence[Row]) -> Table:
    """One row per condition, algorithm and measure, with t intervals over seeds; recovery and majorities by seed."""
    columns = ["partition", "attack", "algorithm", "measure", "value", "low", "high", "seeds", "note"]
    data: list[list[Any]] = []
    for row in rows:
        place = [row.condition.facet, row.condition.attack, row.algorithm]
        for name, words in _NAMES.items():
            found: Interval | None = getattr(row, name)
            if found is not None:
                note = "alarm" if name == "amplification" and row.alarm else found.reason
                data.append([*place, words, found.mean, found.low, found.high, found.n, note])
        for run in row.runs:
            if run.recovery is not None:
                back, watched = run.recovery
                note = f"not within the {watched} rounds that follow the window" if back is None else ""
                data.append([*place, "rounds to recovery, one seed", back, None, None, 1, note])
            if run.majority is not None:
                said = f"{run.majority.expected!r} expected{' of an even draw' if run.majority.pushed else ''}"
                seen = run.majority.seen
                data.append([*place, "rounds with a malicious majority, one seed", seen, None, None, 1, said])
    return Table(columns, data)
