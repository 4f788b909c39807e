"""``report``: pages and tables from the results so far."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.session import (
    Json,
    Outcome,
    exit_codes,
    link,
    prepare,
    sweep_again,
    tell,
    training_of,
)
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.terminal.notes import remark

if TYPE_CHECKING:
    from autoflip_secure.records.outcome import OutcomeRule


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder, finished or not.")],
    compare: Annotated[
        Path | None,
        typer.Option("--compare", metavar="DIR", help="Another results folder; comparison.html shows what changed."),
    ] = None,
    outcome: Outcome = None,
    as_json: Json = False,
) -> None:
    """Write DIR/report.html, report.md, and cells and results as .csv (and .parquet), from the results so far."""
    with exit_codes(folder, as_json):
        prepare()
        from autoflip_secure.scenarios.store.manifest import check_results

        for one in (folder, compare):
            if one is not None:
                check_results(one)
        from autoflip_secure.records.outcome import OutcomeRule
        from autoflip_secure.scenarios.store.results import read_results

        results = read_results(folder, keep_index=True)
        other = read_results(compare) if compare is not None else None
        for read in (results, other):
            where = f"{compare}: " if read is other else ""
            for text in read.remarks if read else []:
                remark(f"{where}{text}")
        rule = OutcomeRule.of(results.scenario) if outcome is None else OutcomeRule.parse(outcome, "--outcome")
        path = folder / "report.html"
        with cells_kept(folder):
            write_page(
                path, folder, results.records, results.scenario, results.missing, results.notes,
                command=sweep_again(folder), outcome=rule,
            )  # fmt: skip
        summary: dict[str, Any] = {
            "report": str(path), "cells": len(results.records), "missing": len(results.missing), "notes": results.notes,
            "outcome": str(rule),
        }  # fmt: skip
        lines = [link(path)]
        if other is not None:
            from autoflip_secure.reports.comparison.side_by_side import Side, write_comparison

            first, second = (
                Side(
                    letter, str(read.scenario["name"]), str(read.folder), read.records, read.missing,
                    [*read.notes, *(one.text for one in training_of(read.records, rule))],
                )
                for letter, read in (("A", results), ("B", other))
            )  # fmt: skip
            against = write_comparison(first, second, folder / "comparison.html", rule)
            summary["comparison"] = str(against)
            lines.append(f"Comparison: {against.resolve().as_uri()}")
        tell(summary, as_json, lines)


@contextmanager
def cells_kept(folder: Path) -> Iterator[None]:
    """Where the report cannot be written, the error says what to do: the cells are kept."""
    try:
        yield
    except StoreError as error:
        again = shlex.join(["autoflip-secure", "report", str(folder)])
        raise StoreError(f"{error}. All cells are kept: `{again}` writes the report once it can") from error


def write_page(
    page: Path,
    folder: Path,
    records: list[Any],
    scenario: dict[str, Any],
    missing: Sequence[Any] = (),
    notes: Sequence[str] = (),
    *,
    command: str,
    outcome: OutcomeRule | None = None,
) -> Path:
    """Write the report on the results in ``folder`` to ``page``, its tables beside it; audits become part of it.

    Raises:
        StoreError: the page or a table cannot be written.
    """
    from autoflip_secure.reports.pages.report import write_report
    from autoflip_secure.scenarios.audits.sweep_audit import finished_audits, unreadable_audits

    left_out = unreadable_audits(folder)
    for note in left_out:
        remark(note)
    return write_report(
        records, scenario, page, missing=missing, notes=[*notes, *left_out], command=command,
        audits=finished_audits(folder, [record.cell for record in records]), budgets=_budgets(folder, records),
        outcome=outcome,
    )  # fmt: skip


def _budgets(folder: Path, records: list[Any]) -> list[Any]:
    """What the private cells of the folder cost together; a remark where their ledgers cannot be added up."""
    if all(record.privacy is None for record in records):
        return []
    from autoflip_secure.scenarios.store.budget import budgets

    try:
        return list(budgets([folder]))
    except (InputError, StoreError) as error:
        remark(f"no privacy budget in the report: {error}")
        return []
