"""The statistics table: every condition and algorithm, each mean with two intervals, each difference with two tests.

On the page a cell without an interval is a dash, and a sentence below the heading says why; the CSV has every digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.comparisons import Row
from autoflip_secure.reports.tables.text import Table, percents

_OWN = ["accuracy (%)", "low (%)", "high (%)", "BCa low (%)", "BCa high (%)"]
_OWN += ["low, other samples (%)", "high, other samples (%)", "test samples", "seeds"]
_PERSONAL = ["worst client (%)", "spread over clients (points)"]
_TEXT = ["perplexity", "perplexity low", "perplexity high"]
_RANK = ["rank from", "rank to", "ranked"]
_PAIR = ["difference (points)", "difference low", "difference high", "difference BCa low", "difference BCa high"]
_PAIR += ["pairs", "effect d", "p t", "p t Holm", "p Wilcoxon", "p Wilcoxon Holm", "verdict"]
_PAIR += ["seeds that would settle it"]


def statistics_table(rows: Sequence[Row], baseline: str | None) -> Table:
    """Every digit, for the CSV. Accuracies in per cent, differences in points; what is missing is named at the end."""
    personal = any(row.between_clients for row in rows)
    text = any(row.perplexity for row in rows)
    own_columns = [*_OWN, *(_PERSONAL if personal else []), *(_TEXT if text else [])]
    ranked = any(row.rank for row in rows)
    columns = ["partition", "attack", "algorithm", *own_columns, *(_RANK if ranked else [])]
    columns += [*(_PAIR if baseline else []), "no interval because"]
    data: list[list[Any]] = []
    for row in rows:
        own, pair = row.accuracy, row.against
        line: list[Any] = [row.condition.facet, row.condition.attack, row.algorithm]
        anywhere = percents(row.anywhere)[1:] if row.anywhere else [None, None]
        line += [*percents(own), *percents(row.bootstrap)[1:], *anywhere, row.samples, own.n]
        if personal:
            line += [100 * value for value in row.between_clients] if row.between_clients else [None, None]
        if text:
            unsure = row.perplexity
            line += [unsure.mean, unsure.low, unsure.high] if unsure else [None, None, None]
        if ranked:
            line += [*(row.rank or (None, None)), row.ranked or None]
        if baseline and pair:
            line += [*percents(pair.difference), *percents(pair.bootstrap)[1:], pair.difference.n, pair.effect]
            line += [pair.t_p, pair.t_holm, pair.wilcoxon_p, pair.wilcoxon_holm, pair.verdict.value, pair.seeds_needed]
        elif baseline:
            line += [None] * 11 + ["baseline" if row.algorithm == baseline else "no pair", None]
        data.append([*line, "; ".join(_reasons([row]))])
    return Table(columns, data)


def without_interval(rows: Sequence[Row]) -> str:
    """Why some cells of the table have a dash in place of an interval, as a sentence; empty when none has."""
    found = _reasons(rows)
    return f"A dash means that there is no interval: {'; '.join(found)}." if found else ""


def _reasons(rows: Sequence[Row]) -> list[str]:
    intervals: list[Interval] = []
    for row in rows:
        intervals += [row.accuracy, row.bootstrap]
        intervals += [row.against.difference, row.against.bootstrap] if row.against else []
    return list(dict.fromkeys(interval.reason for interval in intervals if interval.reason))
