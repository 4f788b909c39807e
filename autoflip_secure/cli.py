"""The command line: the only module that knows everybody. Heavy imports happen inside commands, so ``--help`` is quick.

Exit codes: 0 ok, 2 the user's input or folder is wrong, 3 something broke (the log's path is printed), 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.errors import AutoflipError, InputError, StoreError

if TYPE_CHECKING:
    from scenarios.running import SweepResult

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="How far can agreement-scored federated pruning be trusted when some clients are bad?",
)
Out = Annotated[Path | None, typer.Option("--out", help="Results folder.", show_default="runs/NAME")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, max=1024, help="Processes; left out, chosen by the work there is.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def demo(out: Out = None, workers: Workers = None) -> None:
    """Real handwritten digits, bad clients, FedAvg beside AutoFLIP: under a minute, no download."""
    _sweep("demo", out, workers, [], as_json=False, report=True)


@app.command()
def sweep(
    scenario: Annotated[str, typer.Argument(metavar="FILE|PRESET", help="A scenario file, or the name of a preset.")],
    out: Out = None,
    workers: Workers = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the scenario; repeatable.")
    ] = None,
    as_json: Json = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Results only.")] = False,
) -> None:
    """Run a scenario; the same command again continues where it stopped."""
    _sweep(scenario, out, workers, overrides or [], as_json=as_json, report=not no_report)


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder, finished or not.")],
    as_json: Json = False,
) -> None:
    """Write DIR/report.html from the results that are there."""
    with _exit_codes(folder):
        _prepare()
        import yaml

        from scenarios.store import read_manifest, read_record

        cells = [cell["cell"] for cell in read_manifest(folder)["cells"]]
        records = []
        for key in cells:
            path = folder / "cells" / f"{key}.json"
            if path.exists():
                try:
                    records.append(read_record(path))
                except StoreError as error:
                    _note(f"{error}; left out, the next sweep runs it again")
        try:
            scenario = yaml.safe_load((folder / "scenario.yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise StoreError(f"{folder / 'scenario.yaml'}: cannot be read ({error}); run the sweep again") from error
        if not records:
            raise StoreError(f"{folder}: no finished cells to report on; run the sweep first")
        path = _report(folder, records, scenario, len(cells) - len(records))
        _tell(
            {"report": str(path), "cells": len(records), "missing": len(cells) - len(records)}, as_json, [_link(path)]
        )


@app.command("list")
def list_command(
    family: Annotated[str | None, typer.Argument(metavar="[FAMILY]", help="attacks, algorithms, presets, …")] = None,
    as_json: Json = False,
) -> None:
    """What there is: attacks, aggregators, pruners, algorithms, datasets, partitions, models, presets."""
    with _exit_codes(None):
        _prepare()
        from scenarios.catalogue import catalogue
        from scenarios.messages import suggest

        families = catalogue()
        if family is not None:
            if family not in families:
                raise InputError(f"list: unknown family '{family}'; {suggest(family, families)}")
            families = {family: families[family]}
        width = max(len(name) for entries in families.values() for name in entries)
        lines = []
        for title, entries in families.items():
            lines += [title] if family is None else []
            lines += [f"{'  ' if family is None else ''}{name:<{width}}  {text}" for name, text in entries.items()]
        _tell(families, as_json, lines)


@app.command()
def schema() -> None:
    """JSON schema of a scenario file, for editors."""
    with _exit_codes(None):
        _prepare()
        from scenarios.config import json_schema

        print(json.dumps(json_schema(), indent=2))


def _sweep(
    source: str, out: Path | None, workers: int | None, overrides: list[str], *, as_json: bool, report: bool
) -> None:
    log: list[Path] = []
    with _exit_codes(log):
        _prepare()
        from scenarios.console import listener
        from scenarios.loading import load
        from scenarios.running import run_sweep
        from scenarios.sweep import plan

        work = plan(load(source, overrides))
        folder = out if out is not None else Path("runs") / work.name
        log.append(folder)
        with listener(len(work.keys)) as listening:
            result = run_sweep(work, folder, workers, listening)
        lines = [_summary(result)]
        summary: dict[str, Any] = {
            "folder": str(folder), "cells": len(result.records), "run": len(result.records) - result.reused,
            "reused": result.reused, "workers": result.workers, "seconds": round(result.seconds, 3),
            "damaged": result.damaged, "report": None,
        }  # fmt: skip
        if report:
            path = _report(folder, result.records, work.written, 0)
            summary["report"] = str(path)
            lines.append(_link(path))
        _tell(summary, as_json, lines)


def _report(folder: Path, records: list[Any], scenario: dict[str, Any], missing: int) -> Path:
    from reports.html import write_report

    command = shlex.join(["autoflip-secure", *sys.argv[1:]])
    try:
        return write_report(records, scenario, folder / "report.html", missing=missing, command=command)
    except OSError as error:
        raise StoreError(
            f"{folder / 'report.html'}: cannot be written ({error.strerror or error}); all cells are kept, "
            f"run `autoflip-secure report {folder}` when it can"
        ) from error


def _prepare() -> None:
    """A model of the user's own is found from the current folder; our package names lead to our packages."""
    from autoflip_secure.ownership import check_sole_owner

    check_sole_owner()
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())


def _summary(result: SweepResult) -> str:
    run = len(result.records) - result.reused
    before = f", {result.reused} from before" if result.reused else ""
    crew = f"{result.workers} worker{'s' if result.workers > 1 else ''}"
    return (
        f"{len(result.records)} cells: {run} run{before}, {result.seconds:.1f} s with {crew}. Results: {result.folder}"
    )


def _link(path: Path) -> str:
    return f"Report: {path.resolve().as_uri()}"


def _tell(data: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    print(json.dumps(data, indent=2) if as_json else "\n".join(lines))


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


@contextlib.contextmanager
def _exit_codes(place: Path | list[Path] | None) -> Iterator[None]:
    """Errors -> one clear message and an exit code. ``place``: where a log may be written, known by then or not."""
    try:
        yield
    except (InputError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        print("\ninterrupted: every finished cell is kept; run the same command again to continue", file=sys.stderr)
        raise typer.Exit(130) from error
    except BrokenPipeError as error:  # `autoflip-secure list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        folder = place[0] if isinstance(place, list) and place else place if isinstance(place, Path) else None
        text = str(error) if isinstance(error, AutoflipError) else f"{type(error).__name__}: {error}"
        print(f"error: {text}\nDetails: {_write_log(folder)}", file=sys.stderr)
        raise typer.Exit(3) from error


def _write_log(folder: Path | None) -> str:
    """The traceback in flight, into the results folder when there is one, else into the system's temporary folder."""
    import tempfile
    import traceback

    text = traceback.format_exc()
    if folder is not None and folder.is_dir():
        with contextlib.suppress(OSError), (folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(text)
            return str(folder / "log.txt")
    with (
        contextlib.suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix="autoflip-secure-", suffix=".log", delete=False, encoding="utf-8"
        ) as file,
    ):
        file.write(text)
        return file.name
    return text
