"""``demo`` and ``sweep``: run a scenario, write its report."""

from __future__ import annotations

import contextlib
import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.report import cells_kept, write_page
from autoflip_secure.commands.session import (
    Json,
    Out,
    Overrides,
    Scenario,
    exit_codes,
    link,
    prepare,
    results_folder,
    tell,
    this_command,
    training_of,
)
from autoflip_secure.errors import InputError
from autoflip_secure.terminal.counting import count_of, listed
from autoflip_secure.terminal.notes import remark

if TYPE_CHECKING:
    from autoflip_secure.scenarios.running.sweep import SweepResult


class Engine(StrEnum):
    """What runs the blocks of a sweep."""

    LOCAL = "local"
    RAY = "ray"


Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=1024, help="Worker processes; default: chosen by the amount of work."),
]
KeepModels = Annotated[
    bool,
    typer.Option(
        "--keep-models",
        help="Keep each cell's initial, best and final model, for `export`; finished cells run again for theirs.",
    ),
]


def demo(out: Out = None, workers: Workers = None, keep_models: KeepModels = False) -> None:
    """Compare FedAvg with AutoFLIP under attack on real handwritten digits: about two minutes, no download."""
    sweep("demo", out, workers, keep_models=keep_models)


def sweep(
    scenario: Scenario,
    out: Out = None,
    workers: Workers = None,
    overrides: Overrides = None,
    as_json: Json = False,
    small: Annotated[
        bool,
        typer.Option("--small", help="Run the scenario's small form: what its `small:` changes, as NAME-small."),
    ] = False,
    keep_models: KeepModels = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option("--tensorboard", metavar="DIR", help="Also show every cell as a TensorBoard run, live."),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow", metavar="URI", help="Also show every cell as an MLflow run, live; e.g. sqlite:///mlflow.db."
        ),
    ] = None,
    wandb: Annotated[
        Path | None,
        typer.Option(
            "--wandb",
            metavar="DIR",
            help="Also show every cell as a Weights & Biases run, live, in offline files.",
        ),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option("--tracker", metavar="KIND[=PLACE]", help="Also write to a tracker of your own; repeatable."),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            "--executor",
            metavar="MODULE:FUNCTION",
            help="Run blocks through the concurrent.futures.Executor that a function gives, --workers at once.",
        ),
    ] = None,
    engine: Annotated[
        Engine | None,
        typer.Option("--engine", help="What runs the blocks: this machine, or Ray.", show_default="local"),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="HOST:PORT",
            help="The Ray cluster to use; without it one of this machine is started, and stopped at the end.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="K/N", help="Run part K of N of the blocks; `merge` puts the parts together."),
    ] = None,
) -> None:
    """Run a scenario; the same command again continues where it stopped."""
    log: list[Path] = []
    with exit_codes(log, as_json), contextlib.ExitStack() as stack:
        folder = results_folder(out)
        if shard is not None and folder is None:
            raise InputError(f"--shard {shard:.40}: parts have folders of their own; give --out DIR too")
        prepare()
        from autoflip_secure.scenarios.config.sources import read_source

        document = read_source(scenario)  # what is wrong by then is said before torch is there
        from autoflip_secure.scenarios.config.loading import resolve
        from autoflip_secure.scenarios.config.plan import Shard, plan
        from autoflip_secure.scenarios.running.console import listener, stage
        from autoflip_secure.scenarios.running.executors.choosing import chosen
        from autoflip_secure.scenarios.running.live import live
        from autoflip_secure.scenarios.running.sweep import run_sweep
        from autoflip_secure.scenarios.running.tracker_choice import trackers

        part, where = None if shard is None else Shard.parse(shard), chosen(engine, ray_address, executor)
        work = plan(resolve(document, overrides or [], small=small))
        others = trackers(tensorboard, mlflow, work.name, tracker or [], wandb)
        folder = folder or Path("runs") / work.name
        log.append(folder)
        showing = stack.enter_context(live(others, work.name, work.outcome))
        with listener(len(work.keys)) as listening:
            told = showing.listening(listening)
            result = run_sweep(work, folder, workers, told, keep_models=keep_models, executor=where, shard=part)
        lines = [_summary(result), *_tuned(result)]
        remarks = training_of(result.records, work.outcome) if result.records else []
        summary: dict[str, Any] = {
            "folder": str(folder), "cells": len(result.records), "run": len(result.records) - result.reused,
            "reused": result.reused, "workers": result.workers, "seconds": round(result.seconds, 3),
            "damaged": result.damaged, "training": [one.text for one in remarks],
            "models": str(folder / "models") if keep_models else None, "report": None, "trackers": [],
        }  # fmt: skip
        if result.tuning is not None:
            tuned = result.tuning
            summary["tuning"] = {
                "folder": str(tuned.folder), "cells": len(tuned.records), "run": len(tuned.records) - tuned.reused,
                "reused": tuned.reused,
            }  # fmt: skip
        if keep_models:
            lines.append(f"Models: {folder / 'models'} (autoflip-secure export {folder} CELL)")
        for sentence in summary["training"]:
            remark(sentence)
        if part is not None:
            summary["shard"] = str(part)
            lines.append(
                f"Part {part} of {count_of(len(work.blocks), 'block')}"
                f"{'' if result.records else ', of which it has none'}; when all are done: "
                "autoflip-secure merge DIR… --into DIR"
            )
        elif not no_report:
            path = folder / "report.html"
            with stage("writing the report", result.seconds), cells_kept(folder):
                write_page(path, folder, result.records, work.written, command=this_command())
            summary["report"] = str(path)
            lines.append(link(path))
        for written in showing.finish(result.records, remark):
            summary["trackers"].append(dataclasses.asdict(written))
            lines.append(str(written))
        tell(summary, as_json, lines)


def _tuned(result: SweepResult) -> list[str]:
    """What the tuning stage cost, in a line; which values it chose is in the report."""
    if result.tuning is None:
        return []
    stage = result.tuning
    before = f", {stage.reused} from before" if stage.reused else ""
    tuned = next((record.tuning for record in result.records if record.tuning is not None), None)
    if tuned is None:  # a part without cells
        return []
    tried = "combination" if len(tuned.chosen) > 1 else "value"
    return [
        f"Tuned before: {listed([*tuned.chosen])}, {count_of(tuned.budget, tried)} for every algorithm, on "
        f"{count_of(len(tuned.seeds), 'seed')} of its own ({count_of(len(stage.records), 'cell')}{before}: "
        f"{stage.folder})"
    ]


def _summary(result: SweepResult) -> str:
    run = len(result.records) - result.reused
    before = f", {result.reused} from before" if result.reused else ""
    took = f"{result.seconds:.1f} s with {count_of(result.workers, 'worker')}"
    return f"{count_of(len(result.records), 'cell')}: {run} run{before}, {took}. Results: {result.folder}"
