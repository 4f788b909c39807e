"""``budget``: what all runs on the same data cost together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoflip_secure.commands.session import Json, exit_codes, prepare, tell
from autoflip_secure.errors import InputError


def budget(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Results folders that used the same data.")],
    delta: Annotated[
        float | None,
        typer.Option("--delta", help="Delta at which epsilon is stated.", show_default="the smallest of the ledgers"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add up the privacy ledgers of any number of sweeps: epsilon of everything that was released, per observer.

    An epsilon in a report is that of one cell. Anybody who sees all cells, or chooses a setting by looking at their
    results, has seen the sum. Cells that were begun count, finished or not; the same cell under the same conditions
    counts once. Cells without privacy are named: what they released has no bound.
    """
    with exit_codes(None, as_json):
        prepare()
        if delta is not None and not 0 < delta < 1:
            raise InputError(f"--delta = {delta:g}: should be above 0 and below 1, far below 1/n for n people")
        from autoflip_secure.scenarios.store.manifest import scenario_file

        for folder in folders:
            scenario_file(folder)
        from autoflip_secure.reports.wording.budget import sentences
        from autoflip_secure.scenarios.store.budget import as_json as data
        from autoflip_secure.scenarios.store.budget import budgets

        found = budgets(folders, delta)
        lines = [line for one in found for line in sentences(one)]
        tell({"folders": [str(folder) for folder in folders], "budgets": data(found)}, as_json, lines)
