"""Two sweeps side by side: one HTML file, and the same in short as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.comparison.changes import Change, change_table, compare_pairs, headline, sentences
from autoflip_secure.reports.comparison.figure import cell_by_cell, changes
from autoflip_secure.reports.comparison.matching import Matching, match
from autoflip_secure.reports.figures.sections import draw
from autoflip_secure.reports.figures.style import Palette
from autoflip_secure.reports.pages.markdown import escape, table
from autoflip_secure.reports.pages.page import page
from autoflip_secure.reports.pages.reproducibility import versions
from autoflip_secure.reports.pages.writing import write
from autoflip_secure.reports.statistics.paired import Verdict
from autoflip_secure.reports.study.labels import clean_text, percent, shorten
from autoflip_secure.reports.study.missing_cells import name_missing
from autoflip_secure.reports.study.study import Study, study
from autoflip_secure.reports.study.threat_cards import Cards
from autoflip_secure.reports.wording.phrases import HOLLOW, bracket, mark, points, short_verdict
from autoflip_secure.runtime.threads import one_thread

ROWS_TOLD = 15  # rows of the table in Markdown


@dataclass(frozen=True)
class Side:
    """One of the two sweeps."""

    letter: str  # "A" or "B"
    name: str
    folder: str
    records: Sequence[RunRecord]
    missing: Sequence[dict[str, Any]] = ()
    notes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """Letter, name and place."""
        return f"{self.letter}: {clean_text(self.name)} ({clean_text(self.folder)})"


@one_thread()
def write_comparison(first: Side, second: Side, path: Path, outcome: OutcomeRule = DEFAULT) -> Path:
    """Write ``path`` (HTML) and the same in short as Markdown beside it; ``outcome`` is that of both sides.

    Returns:
        ``path``.

    Raises:
        InputError: the two sweeps have no cell in common.
        StoreError: the folder cannot be written.
    """
    matching, found, rows = _compared(first, second, outcome)
    write(path.with_suffix(".md"), _markdown(first, second, matching, rows, path.name, outcome))
    write(path, _page(first, second, matching, found, rows))
    return path


def render_comparison(first: Side, second: Side, outcome: OutcomeRule = DEFAULT) -> str:
    """The comparison as one HTML file; errors as in :func:`write_comparison`."""
    return _page(first, second, *_compared(first, second, outcome))


def _compared(first: Side, second: Side, outcome: OutcomeRule) -> tuple[Matching, Study, list[Change]]:
    matching = match(first.records, second.records)
    if not matching.pairs:
        raise InputError(
            f"{first.folder} and {second.folder} have no cell in common (same configuration and seed; settings that "
            "are one value throughout each sweep may differ): compare sweeps that share data, partition, attack, "
            "algorithm and seeds"
        )
    found = study([a for a, _ in matching.pairs], outcome)
    return matching, found, compare_pairs(found, matching)


def _page(first: Side, second: Side, matching: Matching, found: Study, rows: list[Change]) -> str:
    palette = Palette(found)
    partner = {a.cell: b for a, b in matching.pairs}
    return page(
        "comparison.html.j2",
        name=shorten(f"{clean_text(first.name)} and {clean_text(second.name)}", 120),
        headline=headline(matching, rows),
        sentences=sentences(matching, rows, found.outcome),
        sides=[
            {
                "side": side,
                "title": side.title,
                "cells": len(side.records),
                "seeds": sorted({r.seed for r in side.records}),
                "versions": versions(side.records),
                "missing": name_missing(side.missing),
                "notes": [clean_text(note) for note in side.notes],
                "only": name_missing([_entry(r) for r in only]),
                "count": len(only),
            }
            for side, only in ((first, matching.only_first), (second, matching.only_second))
        ],
        study=found,
        threat_cards=Cards(found),
        matching=matching,
        rows=rows,
        table=change_table(rows),
        sections=draw(
            [
                (
                    "changes",
                    "What changed",
                    [lambda: changes(found, palette, rows), lambda: cell_by_cell(found, palette, partner)],
                )
            ]
            if matching.changed
            else []
        ),
    )


def _entry(record: RunRecord) -> dict[str, Any]:
    return {
        "cell": record.cell, "algorithm": record.algorithm, "seed": record.seed,
        "axes": record.axes, "config": record.config,
    }  # fmt: skip


def _markdown(
    first: Side, second: Side, matching: Matching, rows: Sequence[Change], link: str, outcome: OutcomeRule
) -> str:
    lines = [f"### {escape(headline(matching, rows))}", ""]
    lines += [f"- {escape(side.title)}: {len(side.records)} cells" for side in (first, second)] + [""]
    for text in sentences(matching, rows, outcome):
        lines += [escape(text), ""]
    if matching.changed:
        order = sorted(
            rows, key=lambda r: (r.accuracy.verdict is Verdict.CANNOT_TELL, -abs(r.accuracy.difference.mean))
        )
        header = ["Condition", "Algorithm", "Accuracy A", "Accuracy B", "A − B", "Verdict"]
        lines += [*table(header, map(_told, order[:ROWS_TOLD])), ""]
        lines += [escape(HOLLOW), ""] if any(row.accuracy.lost for row in order[:ROWS_TOLD]) else []
        lines += [f"The other {len(rows) - ROWS_TOLD} rows are on the page.", ""] if len(rows) > ROWS_TOLD else []
    differing = [*matching.settings, *matching.versions]
    lines += [
        f"- {escape(d.path)}{escape(' of ' + ', '.join(d.algorithms) if d.algorithms else '')}: "
        f"{escape(d.first)} in A, {escape(d.second)} in B"
        for d in differing
    ]
    lines += [] if differing else ["Settings and versions are the same."]
    lines += [f"- {side.letter}: {escape(note)}" for side in (first, second) for note in side.notes]
    return "\n".join([*lines, "", f"Figures and the full table: [{escape(link)}]({link})", ""])


def _told(row: Change) -> list[str]:
    difference = row.accuracy.difference
    change = f"{points(difference.mean)} {bracket(difference, signed=True)}"
    names = [str(row.condition), row.algorithm]
    verdict = f"{mark(row.accuracy) + ' ' if row.accuracy.lost else ''}{short_verdict(row.accuracy.verdict)}"
    return [*names, percent(row.first.mean), percent(row.second.mean), change, verdict]
