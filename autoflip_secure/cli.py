"""The command line: the only module that knows everybody. Heavy imports happen inside commands, so ``--help`` is quick.

Exit codes: 0 ok, 1 the gate or the audit says no, 2 the user's input or folder is wrong (or the gate cannot tell),
3 something broke (the log's path is printed), 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.interrupts import Interrupted, interruptible

if TYPE_CHECKING:
    from scenarios.running import SweepResult

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="How far can agreement-scored federated pruning be trusted when some clients are bad?",
)
Out = Annotated[str | None, typer.Option("--out", help="Results folder.", metavar="DIR", show_default="runs/NAME")]
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
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="DIR", help="Also write every cell as a TensorBoard run.")
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow", metavar="URI", help="Also write every cell as an MLflow run; e.g. sqlite:///mlflow.db."
        ),
    ] = None,
) -> None:
    """Run a scenario; the same command again continues where it stopped."""
    _sweep(
        scenario, out, workers, overrides or [], as_json=as_json, report=not no_report, tensorboard=tensorboard,
        mlflow=mlflow,
    )  # fmt: skip


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder, finished or not.")],
    compare: Annotated[
        Path | None,
        typer.Option("--compare", metavar="DIR", help="Another one: writes comparison.html, what changed against it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write DIR/report.html (also report.md, results.csv, results.parquet) from the results that are there."""
    with _exit_codes(folder):
        _prepare()
        from scenarios.results import read_results

        results = read_results(folder)
        other = read_results(compare) if compare is not None else None
        for read in (results, other):
            where = f"{compare}: " if read is other else ""
            for note in read.notes if read else []:
                _note(f"{where}{note}")
            if read and read.missing:
                _note(f"{where}{len(read.missing)} of {len(read.records) + len(read.missing)} cells are missing")
        again = shlex.join(["autoflip-secure", "sweep", str(folder / "scenario.yaml"), "--out", str(folder)])
        path = _report(folder, results.records, results.scenario, results.missing, results.notes, command=again)
        summary: dict[str, Any] = {
            "report": str(path), "cells": len(results.records), "missing": len(results.missing), "notes": results.notes,
        }  # fmt: skip
        lines = [_link(path)]
        if other is not None:
            from reports.side_by_side import Side, write_comparison

            first, second = (
                Side(letter, str(read.scenario["name"]), str(read.folder), read.records, read.missing, read.notes)
                for letter, read in (("A", results), ("B", other))
            )
            against = write_comparison(first, second, folder / "comparison.html")
            summary["comparison"] = str(against)
            lines.append(f"Comparison: {against.resolve().as_uri()}")
        _tell(summary, as_json, lines)


@app.command()
def audit(
    scenario: Annotated[str, typer.Argument(metavar="FILE|PRESET", help="A scenario file, or the name of a preset.")],
    out: Annotated[Path | None, typer.Option("--out", help="Results folder.", show_default="runs/NAME")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the scenario; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Attack a scenario's privacy: what was released, what is proven, what attackers achieved. Exit code 1: violated.

    Every setting is audited at the scenario's first seed, about ten seconds each on digits. The same command again
    continues where it stopped. Audits in the folder of a sweep are part of its report.
    """
    log: list[Path] = []
    with _exit_codes(log):
        _prepare()
        from scenarios.audits import audit_scenario
        from scenarios.loading import load
        from scenarios.sweep import plan

        work = plan(load(scenario, overrides or []))
        folder = out if out is not None else Path("runs") / work.name
        log.append(folder)
        records = audit_scenario(work, folder, lambda text: print(text, file=sys.stderr, flush=True))
        from reports.audit_page import write_audit
        from reports.audit_words import sentences

        command = shlex.join(["autoflip-secure", *sys.argv[1:]])
        path = write_audit(records, work.written, folder / "audit.html", command=command)
        violated = sum(record.violated for record in records)
        data = {
            "folder": str(folder), "page": str(path), "violated": violated,
            "audits": [record.model_dump(mode="json") for record in records],
        }  # fmt: skip
        _tell(data, as_json, [*sentences(records), f"Audit: {path.resolve().as_uri()}"])
        if violated:
            raise typer.Exit(1)


@app.command("list")
def list_command(
    family: Annotated[str | None, typer.Argument(metavar="[FAMILY]", help="attacks, algorithms, presets, …")] = None,
    as_json: Json = False,
) -> None:
    """What there is, with every option and its default: attacks, aggregators, pruners, datasets, models, presets, …"""
    with _exit_codes(None):
        _prepare()
        from scenarios.catalogue import catalogue, options
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
            margin = "  " if family is None else ""
            for name, text in entries.items():
                lines.append(f"{margin}{name:<{width}}  {text}")
                lines += [f"{margin}    {key}: {default}" for key, default in options(title, name).items()]
        _tell(families, as_json, lines)


@app.command()
def gate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The results folder of a finished sweep.")],
    baseline: Annotated[Path, typer.Option("--baseline", metavar="FILE", help="What the sweep is held against.")],
    update: Annotated[bool, typer.Option("--update", help="Write FILE from DIR instead; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why the baseline changes.")] = None,
    margins: Annotated[
        list[str] | None,
        typer.Option("--margin", metavar="NAME=VALUE", help="How much worse a metric may be; repeatable."),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write Markdown (also to $GITHUB_STEP_SUMMARY).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Is this sweep worse than the baseline? Exit code 0 no, 1 yes, 2 cannot tell."""
    with _exit_codes(None):
        if update == (reason is None):
            raise InputError("gate: --update and --reason TEXT go together: a new baseline says why it is there")
        if update and (junit or markdown):
            raise InputError("gate: --update compares nothing: leave --junit and --markdown away")
        _prepare()
        records = _whole_sweep(folder)
        if reason is not None:
            _new_baseline(records, baseline, reason, margins or [], as_json)
            return
        from reports.files import write
        from reports.gate import run_gate
        from reports.gate_baseline import effective_margins, read_baseline
        from reports.gate_files import append, junit_xml, summary
        from reports.gate_output import as_data, lines

        held = read_baseline(baseline)
        result = run_gate(records, held, effective_margins(held.margins, margins or []))
        _tell(as_data(result), as_json, lines(result))
        if junit:
            write(junit, junit_xml(result))
        if markdown:
            write(markdown, summary(result))
        if os.environ.get("GITHUB_STEP_SUMMARY"):
            append(Path(os.environ["GITHUB_STEP_SUMMARY"]), summary(result))
        raise typer.Exit(result.exit_code)


@app.command()
def party(
    host: Annotated[str, typer.Option("--host", help="Address of this machine to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one and says which.")] = 0,
) -> None:
    """Hold one share of every secret row, for sweeps with `secure_sum: {parties: [{host, port}, …]}`.

    Start one on each machine, all with the same secret in AUTOFLIP_PARTY_TOKEN, which the sweep needs too. Connections
    are authenticated, not encrypted: who reads the links of all parties reads the rows, so use a private network.
    """
    with _exit_codes(None):
        _prepare()
        from scenarios.secure_sums import serve_party

        try:
            serve_party(host, port, lambda text: print(text, flush=True))
        except KeyboardInterrupt as error:
            print("\nparty: stopped", file=sys.stderr)
            raise typer.Exit(128 + error.number if isinstance(error, Interrupted) else 130) from None


@app.command()
def schema() -> None:
    """JSON schema of a scenario file, for editors."""
    with _exit_codes(None):
        _prepare()
        from scenarios.config import json_schema

        print(json.dumps(json_schema(), indent=2))


def _sweep(
    source: str,
    out: str | None,
    workers: int | None,
    overrides: list[str],
    *,
    as_json: bool,
    report: bool,
    tensorboard: Path | None = None,
    mlflow: str | None = None,
) -> None:
    log: list[Path] = []
    with _exit_codes(log):
        if out is not None and not out.strip():
            raise InputError(f"--out {out!r}: names no folder; give one, or leave it out for runs/NAME")
        _prepare()
        from scenarios.console import listener
        from scenarios.loading import load
        from scenarios.running import run_sweep
        from scenarios.sweep import plan
        from scenarios.trackers import trackers

        work = plan(load(source, overrides))
        others = trackers(tensorboard, mlflow)
        folder = Path("runs") / work.name if out is None else Path(out)
        log.append(folder)
        with listener(len(work.keys)) as listening:
            result = run_sweep(work, folder, workers, listening)
        lines = [_summary(result)]
        summary: dict[str, Any] = {
            "folder": str(folder), "cells": len(result.records), "run": len(result.records) - result.reused,
            "reused": result.reused, "workers": result.workers, "seconds": round(result.seconds, 3),
            "damaged": result.damaged, "report": None, "trackers": [],
        }  # fmt: skip
        if report:
            path = _report(folder, result.records, work.written)
            summary["report"] = str(path)
            lines.append(_link(path))
        for tracker in others:
            written = tracker.write(work.name, result.records)
            summary["trackers"].append(dataclasses.asdict(written))
            lines.append(str(written))
        _tell(summary, as_json, lines)


def _whole_sweep(folder: Path) -> list[Any]:
    """Every cell of a finished sweep: a gate says nothing about a part of one."""
    from reports.gaps import name_missing
    from scenarios.results import read_results
    from scenarios.store import read_manifest

    expected = len(read_manifest(folder)["cells"])
    results = read_results(folder)
    for note in results.notes:
        _note(note)
    if results.missing:
        named = name_missing(results.missing)
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        raise StoreError(
            f"{folder}: the sweep is not whole: {len(results.missing)} of {expected} cells are missing or unusable "
            f"({'; '.join(named[:3])}{more}); finish it with "
            f"`{shlex.join(['autoflip-secure', 'sweep', str(folder / 'scenario.yaml'), '--out', str(folder)])}`"
        )
    return results.records


def _new_baseline(records: list[Any], path: Path, reason: str, overrides: list[str], as_json: bool) -> None:
    """Write the baseline; margins that the one before it held stay, unless given anew."""
    from datetime import UTC, datetime

    from reports.files import write
    from reports.gate_baseline import effective_margins, make_baseline, read_baseline

    old = read_baseline(path) if path.exists() else None
    margins = effective_margins(old.margins if old else {}, overrides)
    new = make_baseline(records, reason, datetime.now(UTC).isoformat(timespec="seconds"), margins)
    write(path, new.text())
    dropped = [entry.label for key, entry in old.entries.items() if key not in new.entries] if old else []
    summary = {"baseline": str(path), "entries": len(new.entries), "margins": margins, "dropped": dropped}
    told = [f"{path}: {len(new.entries)} configurations and curves of {len(records)} cells. Commit it with your code."]
    _tell(summary, as_json, told + [f"no longer in it: {label}" for label in dropped])


def _report(
    folder: Path,
    records: list[Any],
    scenario: dict[str, Any],
    missing: Sequence[Any] = (),
    notes: Sequence[str] = (),
    command: str = "",
) -> Path:
    from reports.html import write_report
    from scenarios.audits import finished_audits, unreadable_audits

    command = command or shlex.join(["autoflip-secure", *sys.argv[1:]])
    left_out = unreadable_audits(folder)
    for note in left_out:
        _note(note)
    notes = [*notes, *left_out]
    try:
        return write_report(
            records, scenario, folder / "report.html", missing=missing, notes=notes, command=command,
            audits=finished_audits(folder, [record.cell for record in records]),
        )  # fmt: skip
    except StoreError as error:
        again = shlex.join(["autoflip-secure", "report", str(folder)])
        raise StoreError(f"{error}. All cells are kept: `{again}` writes the report when it can") from error


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
        with interruptible() as signals:
            yield
    except (InputError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        raise _interrupted(error) from error
    except BrokenPipeError as error:  # `autoflip-secure list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from error
    except (typer.Exit, typer.Abort):
        raise
    except (Exception, SystemExit) as error:  # a model of the user's own may end the program
        if signals:  # what was closed because of a signal cannot be shown: the terminal is gone
            raise _interrupted(signals[0]) from error
        folder = place[0] if isinstance(place, list) and place else place if isinstance(place, Path) else None
        text = str(error) if isinstance(error, AutoflipError) else f"{type(error).__name__}: {error}"
        if isinstance(error, SystemExit):
            text = f"something that was called, the model perhaps, ended the program ({text})"
        print(f"error: {text}\nDetails: {_write_log(folder)}", file=sys.stderr)
        raise typer.Exit(3) from error


def _interrupted(error: KeyboardInterrupt) -> typer.Exit:
    with contextlib.suppress(OSError):  # after SIGHUP there may be nobody to tell
        print("\ninterrupted: every finished cell is kept; run the same command again to continue", file=sys.stderr)
    return typer.Exit(128 + error.number if isinstance(error, Interrupted) else 130)


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
