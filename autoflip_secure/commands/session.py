"""Around every command: where imports come from, what is printed where, and how it ends."""

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

from autoflip_secure.commands.completion import scenario_sources
from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.files.regular_files import append_regular, current_folder
from autoflip_secure.runtime.interrupts import Interrupted, interruptible
from autoflip_secure.runtime.memory import out_of_memory
from autoflip_secure.terminal import notes, streams
from autoflip_secure.terminal.advice import without_unsafe_advice
from autoflip_secure.terminal.visible import visible
from autoflip_secure.terminal.wrapping import fitted

if TYPE_CHECKING:
    from autoflip_secure.records.outcome import OutcomeRule
    from autoflip_secure.reports.study.learning import Finding

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Scenario = Annotated[
    str,
    typer.Argument(
        metavar="FILE|PRESET", help="A scenario file, or the name of a preset.", autocompletion=scenario_sources
    ),
]
Outcome = Annotated[
    str | None,
    typer.Option(
        "--outcome",
        metavar="last|'mean of the last N'",
        help="Evaluations that count, instead of the scenario's.",
    ),
]
Out = Annotated[str | None, typer.Option("--out", help="Results folder.", metavar="DIR", show_default="runs/NAME")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the scenario; repeatable.")
]


def prepare() -> None:
    """A model of the user's own is found from the current folder."""
    from autoflip_secure.runtime.platforms import untried

    here = str(current_folder())
    if (sentence := untried()) is not None:
        notes.once(sentence)
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def results_folder(out: str | None) -> Path | None:
    """The folder that ``--out`` names; None: ``runs/NAME``.

    Raises:
        InputError: it names none.
    """
    if out is not None and not out.strip():
        raise InputError(f"--out {out!r}: names no folder; give one, or leave it out for runs/NAME")
    return None if out is None else Path(out)


def this_command() -> str:
    """What was typed, to type it again."""
    return shlex.join(["autoflip-secure", *sys.argv[1:]])


def sweep_again(folder: Path) -> str:
    """The command that continues the sweep in a results folder."""
    return shlex.join(["autoflip-secure", "sweep", str(folder / "scenario.yaml"), "--out", str(folder)])


def link(path: Path) -> str:
    """Where the report is, as an address that terminals open."""
    return f"Report: {path.resolve().as_uri()}"


def tell(data: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """The answer, for scripts or for people, on standard output."""
    try:
        streams.answer(
            json.dumps(data, indent=2)
            if as_json
            else fitted("\n".join(visible(line, lines=True) for line in lines), sys.stdout)
        )
    except OSError as error:
        raise StoreError(
            f"standard output: cannot be written ({error.strerror}), so the answer is lost; files are written"
        ) from error


def training_of(records: list[Any], rule: OutcomeRule) -> list[Finding]:
    """Where the training of a sweep failed, in words; usually nothing."""
    from autoflip_secure.reports.study.learning import findings
    from autoflip_secure.reports.study.study import study

    return findings(study(records, rule))


@contextlib.contextmanager
def exit_codes(place: Path | list[Path] | None, as_json: bool = False) -> Iterator[None]:
    """Errors -> one clear message and an exit code.

    Args:
        place: where a log may be written, known by then or not.
        as_json: the answer is for scripts: standard output is that alone, whatever a model or a library prints.
    """
    notes.begin()
    try:
        with interruptible() as signals, streams.answer_alone() if as_json else contextlib.nullcontext():
            yield
    except (InputError, StoreError) as error:
        _complain(f"error: {visible(without_unsafe_advice(str(error)), lines=True)}")
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:  # a library may have made a plain one of a signal's
        raise _interrupted(signals[0] if signals else error) from error
    except BrokenPipeError as error:  # what is not the answer, and nobody reads
        streams.drop(sys.stdout)
        raise typer.Exit(0) from error
    except (typer.Exit, typer.Abort):
        raise
    except (Exception, SystemExit) as error:  # a model of the user's own may end the program
        if signals:  # what came of it says nothing: the terminal is gone, or a library turned Ctrl-C into its own error
            raise _interrupted(signals[0]) from error
        folder = place[0] if isinstance(place, list) and place else place if isinstance(place, Path) else None
        text = str(error) if isinstance(error, AutoflipError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, AutoflipError) and (why := out_of_memory(error)) is not None:
            text = f"memory ran out ({why}); take a smaller model or fewer clients and explorers"
        if isinstance(error, SystemExit):
            text = f"something that the program called, perhaps the model, ended it ({text})"
        told = visible(without_unsafe_advice(text), lines=True)
        _complain(f"error: {told}\nDetails: {_write_log(folder)}")
        raise typer.Exit(3) from error


def _complain(text: str) -> None:
    print(fitted(text, sys.stderr), file=sys.stderr)


def _interrupted(error: KeyboardInterrupt) -> typer.Exit:
    with contextlib.suppress(OSError):  # after SIGHUP there may be nobody to tell
        print("\ninterrupted: every finished cell is kept; run the same command again to continue", file=sys.stderr)
    return typer.Exit(128 + error.number if isinstance(error, Interrupted) else 130)


def _write_log(folder: Path | None) -> str:
    """The traceback in flight, into the results folder when there is one, else into the system's temporary folder."""
    import tempfile
    import traceback

    text = traceback.format_exc()
    if folder is not None and os.path.isdir(folder):
        with contextlib.suppress(OSError):
            append_regular(folder / "log.txt", text)
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
