"""What a run from Python returns: records, as frames, as a report, and as a table under a notebook's cell."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.scenarios.testing.robustness import Results as Answers
from autoflip_secure.terminal.counting import count_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Results(Answers):
    """All finished cells of a scenario.

    Numbers of one condition with their 95 % interval over seeds: ``accuracy(algorithm="autoflip", sigma=0.5)``,
    ``detection_auc``, ``density``, ``uplink_bytes``, ``training_flops``, and ``measure`` for any other number of a
    record. Everything at once: :meth:`frame`, :meth:`rounds` and :meth:`report`.
    """

    scenario: Mapping[str, Any] = field(default_factory=dict)  # as written, defaults and changes filled in
    missing: tuple[Mapping[str, Any], ...] = ()  # cells of the scenario that have no usable record
    notes: tuple[str, ...] = ()  # what was left out of the folder, a sentence each
    temporary: bool = False  # the folder is removed with this object, unless a report was written into it
    _removals: list[weakref.finalize[Any, Any]] = field(default_factory=list, init=False, compare=False)

    def __post_init__(self) -> None:
        if self.temporary:
            self._removals.append(weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True))

    def __repr__(self) -> str:
        return f"<{self.name}: {count_of(len(self.records), 'cell')}{'' if self.temporary else f' in {self.folder}'}>"

    def frame(self) -> pd.DataFrame:
        """A row for each cell; the columns (of ``cells.csv``) are described in ``docs/results.md``."""
        from autoflip_secure.reports.tables.cells_frame import cells_frame

        return cells_frame(self.records, self.outcome)

    def rounds(self) -> pd.DataFrame:
        """A row for each cell and round; the columns (of ``results.csv``) are described in ``docs/results.md``."""
        from autoflip_secure.reports.tables.frames import tidy

        return tidy(self.records, self.outcome)

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the report: one self-contained HTML file, and its tables next to it.

        Args:
            path: of the HTML file (``noise.html``), or a folder, which gets a ``report.html``; left out, the results
                folder. A temporary folder with a report in it is not removed.

        Returns:
            Where the HTML file is.

        Raises:
            InputError: ``path`` names neither an HTML file nor a folder.
            StoreError: it cannot be written.
        """
        from autoflip_secure.commands.report import write_page
        from autoflip_secure.commands.session import sweep_again

        page = self.folder if path is None else as_path(path, "report({})", "name an .html file or a folder")
        if path is None or page.suffix.lower() not in (".html", ".htm"):
            if path is not None and page.suffix and not page.is_dir():
                raise InputError(f"report({os.fspath(path)!r}): should end in .html, or be a folder")
            page /= "report.html"
        with in_pythons_words():
            write_page(
                page, self.folder, list(self.records), dict(self.scenario), self.missing, self.notes,
                command="" if self.temporary else sweep_again(self.folder), outcome=self.outcome,
            )  # fmt: skip
        if path is None:
            for removal in self._removals:
                removal.detach()
        return page

    def _repr_html_(self) -> str:
        from autoflip_secure.reports.pages.notebook import summary

        return summary(self.records, self.name, self.outcome, len(self.missing))


def as_path(given: object, said: str, way_out: str) -> Path:
    """A path given by a caller, with ``~`` as the home folder.

    Args:
        given: text or a path.
        said: how the caller wrote it, ``load({})``.
        way_out: what to give instead.

    Raises:
        InputError: it is neither, or empty.
    """
    if not isinstance(given, str | os.PathLike) or not os.fspath(given).strip():
        raise InputError(f"{said.format(repr(given))}: is not a path; {way_out}")
    return Path(os.path.expanduser(os.fspath(given)))


_WORDS = {
    "with --out": "with out=",
    "--workers": "workers",
    "run the same command again": "make the same call again",
    "the same command again": "the same call again",
}


@contextmanager
def in_pythons_words() -> Iterator[None]:
    """Options of the command line, in what an error advises, are called as they are in Python.

    The error is raised anew, so that its traceback is short and leads to the user's own code where that was the cause.
    """
    try:
        yield
    except AutoflipError as error:
        said = str(error)
        for there, here in _WORDS.items():
            said = said.replace(there, here)
        cause = error.__cause__
        while isinstance(cause, AutoflipError):
            cause = cause.__cause__
        kind = type(error)
        raise kind.__new__(kind, said) from (None if isinstance(cause, ValidationError) else cause)
