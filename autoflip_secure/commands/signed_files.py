"""What ``account`` and ``budget`` write beside their answer: a page to sign, and a table of clients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoflip_secure.errors import InputError

if TYPE_CHECKING:
    from autoflip_secure.records.budget import ClientLine

Clients = Annotated[
    Path | None,
    typer.Option("--clients", metavar="FILE.csv", help="Also write what every client released, with its epsilon."),
]
Page = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.html", help="Also write a page to sign; prints to PDF.")
]


def check_targets(out: Path | None, clients: Path | None) -> None:
    """The names say what the files are, so that no other file is overwritten by mistake.

    Raises:
        InputError: one does not.
    """
    for option, path, ending in (("--out", out, ".html"), ("--clients", clients, ".csv")):
        if path is not None and path.suffix.lower() != ending:
            raise InputError(f"{option} {path}: should end in {ending}; give {path.with_suffix(ending)}")
        if path is not None and path.is_dir():
            raise InputError(f"{option} {path}: is a folder; give a file")


def refuse_inputs(targets: Sequence[Path | None], inputs: Sequence[Path]) -> None:
    """Nothing that was read is overwritten.

    Raises:
        InputError: a target is one of the inputs.
    """
    read = {path.resolve() for path in inputs}
    for path in targets:
        if path is not None and path.resolve() in read:
            raise InputError(f"{path}: is part of what is counted; give another file")


def write_clients(path: Path, lines: Iterable[ClientLine]) -> Path:
    """The table of clients.

    Raises:
        StoreError: it cannot be written.
    """
    from autoflip_secure.reports.pages.writing import write
    from autoflip_secure.reports.tables.clients import client_table
    from autoflip_secure.reports.tables.text import as_csv

    write(path, as_csv(client_table(lines)))
    return path
