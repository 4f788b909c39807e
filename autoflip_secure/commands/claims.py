"""``claims``: run what each claim of the paper and of its review needs, and say what came of it on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autoflip_secure.commands.session import (
    Json,
    Overrides,
    exit_codes,
    link,
    prepare,
    results_folder,
    tell,
    this_command,
    training_of,
)
from autoflip_secure.commands.sweep import Workers
from autoflip_secure.errors import StoreError
from autoflip_secure.terminal.counting import count_of
from autoflip_secure.terminal.notes import remark


def claims(
    quick: Annotated[
        bool, typer.Option("--quick", help="Few settings and ten seeds: about ten minutes on two cores, not an hour.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", help="Results folder.", metavar="DIR", show_default="runs/claims or runs/claims-quick"),
    ] = None,
    workers: Workers = None,
    overrides: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="SCENARIO", help="Only the claims that this scenario answers; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Test every claim of the AutoFLIP paper and its review; the same command again goes on where it stopped."""
    log: list[Path] = []
    with exit_codes(log, as_json):
        folder = results_folder(out) or Path("runs") / ("claims-quick" if quick else "claims")
        prepare()
        from autoflip_secure.reports.claims.portfolio import Stage, answered
        from autoflip_secure.reports.claims.words import conditions
        from autoflip_secure.reports.pages.claims import write_claims
        from autoflip_secure.reports.study.study import study
        from autoflip_secure.scenarios.running.claim_stages import planned_stages
        from autoflip_secure.scenarios.running.console import listener, stage
        from autoflip_secure.scenarios.running.sweep import run_sweep

        stages, absent = planned_stages(folder, overrides or [], quick=quick, only=only or [])
        log.append(folder)
        cells = sum(len(one.plan.keys) for one in stages)
        if not as_json:
            remark(f"{count_of(len(stages), 'scenario')}, {count_of(cells, 'cell')}; results in {folder}")
        done, reused, seconds = dict[str, Stage](), 0, 0.0
        for number, one in enumerate(stages, 1):
            with listener(len(one.plan.keys)) as listening:
                listening.stage(f"{one.scenario} ({number} of {len(stages)})", len(one.plan.keys))
                result = run_sweep(one.plan, one.folder, workers, listening)
            reused, seconds = reused + result.reused, seconds + result.seconds
            for found in training_of(result.records, one.plan.outcome):
                remark(f"{one.scenario}: {found.text}")
            records = study(result.records, one.plan.outcome)
            done[one.scenario] = Stage(records, one.command, conditions(records))
        tested = answered(done, absent)
        page = folder / "claims.html"
        with stage("writing the page", seconds):
            try:
                write_claims(tested, page, quick=quick, command=this_command(), cells=cells)
            except StoreError as error:
                raise StoreError(f"{error}. All cells are kept: the same command again writes the page") from error
        from autoflip_secure.reports.claims.words import headline, line

        summary: dict[str, Any] = {
            "folder": str(folder), "page": str(page), "claims": str(page.with_suffix(".json")), "cells": cells,
            "reused": reused, "seconds": round(seconds, 3), "verdicts": {one.asked.key: line(one)[0] for one in tested},
        }  # fmt: skip
        tell(summary, as_json, [headline(tested), *(f"  {line(one)[1]}" for one in tested), link(page)])
