"""Backdoors as a table: words for the page, every digit for the CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoflip_secure.reports.study.backdoors import Planted
from autoflip_secure.reports.tables.run_robustness import Cell, Line, PageTable, number_cell
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.wording.backdoors import lasted

_SHARES = {
    "success": ("attack success (%)", "attack success"),
    "accuracy": ("accuracy (%)", "accuracy"),
    "neurons": ("trigger's neurons kept (%)", "weights of the trigger's neurons kept"),
    "weights": ("weights on the trigger kept (%)", "weights on the trigger kept"),
    "layer": ("first layer kept (%)", "weights of the first prunable layer kept"),
}
"""Measure -> heading on the page, name in the CSV."""


def backdoor_table(rows: Sequence[Planted]) -> PageTable[Planted]:
    """``rows`` in words, with the columns that some row has."""
    names = [name for name in _SHARES if any(getattr(row, name) for row in rows)]
    columns, ends = [_SHARES[name][0] for name in names], any(row.durabilities for row in rows)
    lines = []
    for row in rows:
        cells = [number_cell(getattr(row, name), 100, 1) for name in names]
        lines.append(Line(row, [*cells, *([_durability(row)] if ends else [])]))
    return PageTable([*columns, *(["durability (rounds)"] if ends else [])], lines)


def _durability(row: Planted) -> Cell | None:
    said = lasted(row.durabilities)
    if said is None:
        return None
    known = [one.rounds if one.rounds is not None else one.watched + 1 for one in row.durabilities]
    return Cell(*said, sum(known) / len(known))


def exact_backdoors(rows: Sequence[Planted]) -> Table:
    """One row per condition, algorithm and measure, with t intervals over seeds; durability by seed."""
    columns = ["partition", "attack", "algorithm", "measure", "value", "low", "high", "seeds", "note"]
    data: list[list[Any]] = []
    for row in rows:
        place = [row.condition.facet, row.condition.attack, row.algorithm]
        for name, (_, words) in _SHARES.items():
            found = getattr(row, name)
            if found is not None:
                data.append([*place, words, found.mean, found.low, found.high, found.n, found.reason])
        for rounds, watched in row.durabilities:
            note = f"not within the {watched} rounds that follow the window" if rounds is None else ""
            data.append([*place, "durability in rounds, one seed", rounds, None, None, 1, note])
    return Table(columns, data)
