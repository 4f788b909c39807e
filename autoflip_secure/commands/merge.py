"""``merge``: results folders of one scenario, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autoflip_secure.commands.report import cells_kept, write_page
from autoflip_secure.commands.session import Json, exit_codes, link, prepare, tell, this_command
from autoflip_secure.terminal.counting import count_of
from autoflip_secure.terminal.notes import remark


def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Results folders, of whole sweeps or parts.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="A new folder, or one of the same scenario.")],
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    as_json: Json = False,
) -> None:
    """Put results folders of one scenario together: the parts of `sweep --shard`, or of several machines.

    What two folders have has to be equal; ledgers are united, so that every release counts once. The folders that are
    read stay as they are. Where cells are missing, the same sweep in the merged folder runs them.
    """
    with exit_codes(into, as_json):
        prepare()
        from autoflip_secure.scenarios.running.console import stage
        from autoflip_secure.scenarios.running.merging import merge as merged
        from autoflip_secure.scenarios.store.results import read_results

        result = merged(folders, into, remark)
        count = count_of(len(result.plan.keys), "cell")
        lines = [f"{len(result.records)} of {count}: {result.new} new. Results: {into}"]
        if result.missing:
            lines.append(f"{result.missing} missing: autoflip-secure sweep {into / 'scenario.yaml'} --out {into}")
        summary: dict[str, Any] = {
            "folder": str(into), "cells": len(result.records), "new": result.new, "missing": result.missing,
            "report": None,
        }  # fmt: skip
        if not no_report and result.records:
            path = into / "report.html"
            with stage("writing the report", 0.0), cells_kept(into):
                found = read_results(into)
                write_page(
                    path, into, found.records, found.scenario, found.missing, found.notes, command=this_command()
                )
            summary["report"] = str(path)
            lines.append(link(path))
        tell(summary, as_json, lines)
