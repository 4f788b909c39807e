"""A row for each client and observer: what it released, and its epsilon. For a CSV file, of a log or of a budget."""

from __future__ import annotations

from collections.abc import Iterable

from autoflip_secure.records.budget import ClientLine
from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.reports.tables.text import Table

COLUMNS = [
    "data", "division", "client", "observer", "unit", "neighbours", "runs", "releases", "released", "guarantee",
    "epsilon", "delta", "reason",
]  # fmt: skip


def client_table(lines: Iterable[ClientLine]) -> Table:
    """In the order of ``lines``; ``epsilon`` is empty where there is no guarantee, and ``reason`` says why."""
    return Table(COLUMNS, [_row(line) for line in lines])


def _row(line: ClientLine) -> list[object]:
    reason = line.reason or ("no finite bound" if line.epsilon is None else "")
    return [
        clean_text(line.data), line.division, clean_text(line.client), line.observer, line.unit, line.relation,
        line.runs, line.releases, clean_text(line.released), line.epsilon is not None, line.epsilon, line.delta,
        clean_text(reason),
    ]  # fmt: skip
