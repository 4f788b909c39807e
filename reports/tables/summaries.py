"""The claims and the degradation summaries as tables: words for the page, every digit for the CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoflip_secure.reports.claims.findings import Answer, Claim
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.statistics.paired import Paired
from autoflip_secure.reports.study.degradation import Line, Measure
from autoflip_secure.reports.study.labels import SHARES
from autoflip_secure.reports.tables.text import Table, p_value
from autoflip_secure.terminal.counting import count_of


@dataclass(frozen=True)
class Cell:
    """One measure of one line on the page. ``note`` and ``p`` may be empty; ``pair`` is None for the baseline."""

    value: str
    interval: str
    sort: float
    pair: Paired | None
    difference: str
    difference_interval: str
    p: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the page's table; None: the measure does not exist for it."""

    line: Line
    area: Cell | None
    breakdown: Cell | None
    worst: Cell | None


def degradation_rows(lines: Sequence[Line]) -> list[Row]:
    """``lines`` in words."""
    return [Row(x, _cell(x.area, 100), _breakdown(x), _cell(x.worst, 100)) for x in lines]


def degradation_table(lines: Sequence[Line]) -> Table:
    """One row per line and measure, with t and bootstrap intervals, differences and both tests."""
    columns = ["partition", "attack", "algorithm", "strengths", "measure", "value", "low", "high", "seeds"]
    columns += ["difference", "difference low", "difference high", "BCa low", "BCa high", "effect d", "p t"]
    columns += ["p t Holm", "p Wilcoxon", "p Wilcoxon Holm", "verdict", "seeds that would settle it"]
    columns += ["seeds within the margin to the end", "note"]
    rows: list[list[Any]] = []
    for line in lines:
        for name, measure in (("area", line.area), ("breakdown point", line.breakdown), ("worst case", line.worst)):
            if measure is None:
                continue
            own, pair = measure.value, measure.against
            row: list[Any] = [line.facet, line.over, line.algorithm, " ".join(f"{x:g}" for x in line.grid), name]
            row += [own.mean, own.low, own.high, own.n]
            if pair is None:
                row += [None] * 12
            else:
                row += [pair.difference.mean, pair.difference.low, pair.difference.high]
                chosen = name == "worst case"  # the bootstrap knows nothing of the choice of the attacks
                row += [None, None] if chosen else [pair.bootstrap.low, pair.bootstrap.high]
                row += [pair.effect, pair.t_p, pair.t_holm]
                row += [pair.wilcoxon_p, pair.wilcoxon_holm, pair.verdict.value, pair.seeds_needed]
            rows.append([*row, line.unbroken if name == "breakdown point" else None, line.note])
    return Table(columns, rows)


def claims_table(claims: Sequence[Claim]) -> Table:
    """One row per claim and place where it was tested."""
    columns = ["claim", "answer", "place", "answer there", "mean", "low", "high", "seeds", "evidence"]
    columns += ["seeds that would settle it", "p", "p Holm", "how it was measured", "what to add", "notes"]
    rows: list[list[Any]] = []
    for claim in claims:
        ps = [claim.p, claim.corrected] if claim.evidence else [None, None]
        tail: list[Any] = [*ps, claim.measured, claim.needs, " ".join(claim.notes)]
        for e in claim.evidence:
            own = [e.interval.mean, e.interval.low, e.interval.high, e.interval.n, e.text, e.seeds_needed]
            rows.append([claim.says, claim.answer.value, e.where, e.answer.value, *own, *tail])
        if not claim.evidence:
            rows.append([claim.says, claim.answer.value, *[None] * 8, *tail])
    return Table(columns, rows)


def tally(claims: Sequence[Claim]) -> str:
    """How many claims hold, do not hold, and so on, in words."""
    words = {
        Answer.HOLDS: ("holds", "hold"),
        Answer.DOES_NOT_HOLD: ("does not hold", "do not hold"),
        Answer.CANNOT_TELL: ("cannot be told", "cannot be told"),
        Answer.NOT_TESTED: ("was not tested", "were not tested"),
    }
    counts = [(sum(c.answer is answer for c in claims), pair) for answer, pair in words.items()]
    return ", ".join(f"{n} {pair[n != 1]}" for n, pair in counts if n)


def _cell(measure: Measure | None, scale: float, note: str = "", unit: str = "") -> Cell | None:
    if measure is None:
        return None
    pair = measure.against
    digits = 1 if scale == 100 else 2
    return Cell(
        _number(scale * measure.value.mean, digits) + unit,
        _bracket(measure.value, scale, digits),
        measure.value.mean,
        pair,
        _number(scale * pair.difference.mean, digits, "+") if pair else "",
        _bracket(pair.difference, scale, digits, "+") if pair else "",
        f"p {p_value(pair.t_holm)}" if pair and pair.t_holm is not None else "",
        note,
    )


def _breakdown(line: Line) -> Cell | None:
    if line.breakdown is None or line.curve is None:
        return None
    scale = 100 if line.curve.parameter in SHARES else 1
    unit = " %" if scale == 100 else ""
    n, top = line.breakdown.value.n, f"{scale * line.grid[-1]:g}{unit}"
    note = ""
    if line.unbroken:
        note = f"not reached up to {top} in {line.unbroken} of {count_of(n, 'seed')}"
    elif line.breakdown.value.mean == 0:
        note = f"left at the first step, {scale * line.grid[1]:g}{unit}"
    cell = _cell(line.breakdown, scale, note, unit)
    if cell is not None and line.unbroken == n:
        return Cell(f"> {top}", "", line.grid[-1], cell.pair, cell.difference, cell.difference_interval, cell.p, note)
    return cell


def _number(value: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def _bracket(interval: Interval, scale: float, digits: int, sign: str = "") -> str:
    if interval.low is None or interval.high is None:
        return f"no interval: {interval.reason}"
    if interval.low == interval.high:
        return f"in all {interval.n} seeds"
    ends = (_number(scale * end, digits, sign) for end in (interval.low, interval.high))
    return f"[{', '.join(ends)}]"
