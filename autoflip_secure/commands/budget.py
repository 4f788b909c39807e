"""``budget``: what all runs on the same data cost together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoflip_secure.commands.session import Json, exit_codes, prepare, tell, this_command
from autoflip_secure.commands.signed_files import Clients, Page, check_targets, refuse_inputs, write_clients
from autoflip_secure.errors import InputError


def budget(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Results folders that used the same data.")],
    delta: Annotated[
        float | None,
        typer.Option("--delta", help="Delta at which epsilon is stated.", show_default="the smallest of the ledgers"),
    ] = None,
    clients: Clients = None,
    out: Page = None,
    as_json: Json = False,
) -> None:
    """Add up the privacy ledgers of any number of sweeps: epsilon of everything that was released, per observer.

    An epsilon in a report is that of one cell. Anybody who sees all cells, or chooses a setting by looking at their
    results, has seen the sum. Cells that were begun count, finished or not; the same cell under the same conditions
    counts once. Cells without privacy are named: what they released has no bound.

    --clients writes what each client released over all runs, with its epsilon for every observer; --out a page to sign:
    who may say what to whom. docs/account.md has both.
    """
    with exit_codes(None, as_json):
        prepare()
        if delta is not None and not 0 < delta < 1:
            raise InputError(f"--delta = {delta:g}: should be above 0 and below 1, far below 1/n for n people")
        check_targets(out, clients)
        from autoflip_secure.scenarios.store.manifest import scenario_file

        for folder in folders:
            scenario_file(folder)
        from autoflip_secure.reports.wording.budget import sentences
        from autoflip_secure.scenarios.store.budget import as_json as data
        from autoflip_secure.scenarios.store.budget import budgets
        from autoflip_secure.scenarios.store.budget import clients as released

        found = budgets(folders, delta)
        lines = [line for one in found for line in sentences(one)]
        names, written = [str(folder) for folder in folders], {}
        if clients is not None:
            refuse_inputs([clients], _tables(folders))
            written["clients"] = str(write_clients(clients, released(folders, delta)))
            lines.append(f"Clients: {clients}")
        if out is not None:
            from autoflip_secure.reports.pages.statement import write_budget

            refuse_inputs([out], _tables(folders))
            written["page"] = str(write_budget(found, names, out, command=this_command()))
            lines.append(f"Page: {out.resolve().as_uri()}")
        tell({"folders": names, "budgets": data(found), **written}, as_json, lines)


def _tables(folders: list[Path]) -> list[Path]:
    """Files of a sweep that neither a page nor a table may take the place of."""
    names = ("report.html", "audit.html", "results.csv", "cells.csv", "worst_cases.csv", "tuning.csv")
    return [folder / name for folder in folders for name in names]
