"""Scenarios from Python: ``run`` one, or ``load`` what a run has left. A composition root, as the command line is.

Nothing here touches signals, so it works in a notebook's kernel and in any thread: Ctrl-C (*Interrupt the kernel*) ends
a run, and finished cells are kept. Numbers are made in one thread and with torch's defaults, whatever the program that
calls has set.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.durable import unwritable
from autoflip_secure.files.regular_files import current_folder
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.stored import whole
from autoflip_secure.reports.study.learning import findings
from autoflip_secure.reports.study.study import study
from autoflip_secure.run_results import Results, as_path, in_pythons_words
from autoflip_secure.runtime.platforms import untried
from autoflip_secure.runtime.torch_defaults import torch_defaults
from autoflip_secure.scenarios.config.overrides import as_called, importable, load_changed
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.sources import presets
from autoflip_secure.scenarios.running.console import listener
from autoflip_secure.scenarios.running.sweep import run_sweep
from autoflip_secure.scenarios.store.results import read_results
from autoflip_secure.terminal import notes


def run(
    scenario: str | os.PathLike[str] | Mapping[str, Any],
    *,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    small: bool = False,
    **overrides: Any,
) -> Results:
    """Run a scenario, cell by cell, and return its results.

    Args:
        scenario: the name of a preset (``autoflip-secure list presets``), a scenario file, or a dictionary with its
            content.
        out: results folder. A folder with finished cells of the same scenario is continued, so the same call again
            runs nothing twice. If left out, it is a temporary one that is removed with the results, unless a report
            was written into it.
        workers: processes; if left out, chosen by the amount of work. Results do not depend on it.
        small: run the scenario's small form, as ``sweep --small`` does.
        overrides: key of the scenario -> value. ``rounds=20``, ``seeds=range(10, 15)``; two underscores lead into a
            mapping: ``attack__sigma=0.3``, ``sweep__attack__sigma=[0.1, 0.5]`` for an axis.

    Raises:
        InputError: scenario, data or model is wrong; says what, where and what to do. Nothing has been run.
        StoreError: the folder cannot be used.
        AutoflipError: a worker died.
    """
    if not isinstance(scenario, Mapping):
        scenario = str(
            as_path(scenario, "run({})", f"give a scenario file, a dictionary or a preset: {', '.join(presets())}")
        )
    if workers is not None and (type(workers) is not int or workers < 1):
        raise InputError(f"run(…, workers={workers!r}): give a whole number from 1, or leave it out")
    if out is not None:
        out = as_path(out, "run(…, out={})", "name a folder, or leave it out for a temporary one")
    if (sentence := untried()) is not None:
        notes.once(sentence)
    with importable(current_folder()), torch_defaults(), in_pythons_words(), as_called(overrides, "run"):
        work = plan(load_changed(scenario, overrides, "run", small=small))
        with _folder(out, work.name) as folder, listener(len(work.keys)) as listening:
            done = run_sweep(work, folder, workers, listening, elsewhere="give another folder with out=")
    for record in done.records if out is None else ():  # which may outlive the folder
        whole(record)
    for finding in findings(study(done.records, work.outcome)):
        notes.remark(finding.text)
    return Results(
        work.name, folder, tuple(done.records), done.reused, work.outcome,
        scenario=work.written, temporary=out is None,
    )  # fmt: skip


def load(folder: str | os.PathLike[str]) -> Results:
    """Read a results folder, finished or not. Nothing is run and nothing is written.

    Of a folder of 200 cells or more, what nobody has asked a record for stays in its file, which must not change.

    Args:
        folder: made by :func:`run` with ``out``, or by ``autoflip-secure sweep``.

    Raises:
        InputError: ``folder`` is not a path.
        StoreError: no such folder, or nothing in it that this version can read.
    """
    folder = as_path(folder, "load({})", "name the folder of a run")
    with in_pythons_words():
        found = read_results(folder)
        for text in found.remarks:
            notes.remark(text)
        rule = OutcomeRule.of(found.scenario)
    return Results(
        str(found.scenario["name"]), found.folder, tuple(found.records), len(found.records), rule,
        scenario=found.scenario, missing=tuple(found.missing), notes=tuple(found.notes),
    )  # fmt: skip


@contextmanager
def _folder(out: Path | None, name: str) -> Iterator[Path]:
    """Where a run writes. A temporary folder whose run ends in the middle stays if it holds finished cells."""
    if out is not None:
        yield out
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"autoflip-secure-{name}-"))
    except OSError as error:
        raise StoreError(f"{tempfile.gettempdir()}: {unwritable(error, 'name a results folder with out=')}") from error
    try:
        yield folder
    except BaseException:
        if any(folder.glob("**/cells/*.json")):
            notes.remark(f"finished cells are kept in {folder}; the same call with out={str(folder)!r} continues")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
