"""Weights & Biases, offline: one run per cell in files that ``wandb sync`` uploads, grouped by setting.

Nothing leaves the machine: runs are made with ``mode="offline"``. The file of a run grows while its cell runs, for
up to :data:`AT_ONCE` cells at once; the others are written when their block is saved.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.files.durable import unwritable, write_whole
from autoflip_secure.files.regular_files import parse_json, read_regular
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.trackers.base import Tracker, Written, missing
from autoflip_secure.scenarios.trackers.flattened import Begun, Series, Track, begins, points, track

AT_ONCE = 50
"""Runs that are open at a time: each keeps a file and a stream of the library's own process."""
_PREFIX = "offline-run-"
_LONGEST = 128  # characters of a run's name; the server refuses longer ones, and nothing says so before the upload


class Wandb(Tracker):
    """Weights & Biases, offline: a project named after the sweep, one run per cell, live, a group for each setting."""

    live: ClassVar[bool] = True

    def __init__(self, place: str, sweep: str) -> None:
        """Make the folder."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise InputError(missing("--wandb", "wandb", error)) from error
        self._wandb, self.folder = wandb, Path(place)
        self._open: dict[str, tuple[Any, Series]] = {}  # by cell: runs of cells that still run, and what was logged
        with self._explained():
            self.folder.mkdir(parents=True, exist_ok=True)

    def rounds(self, sweep: str, entries: Sequence[tuple[Begun, RoundRecord]]) -> None:
        """Begin runs of cells that are new, while fewer than :data:`AT_ONCE` are open, and log what has ended."""
        with self._explained():
            refused = set[str]()
            for cell, entry in entries:
                if cell.cell not in self._open:
                    if cell.cell in refused or len(self._open) >= AT_ONCE or self._mark(sweep, cell.cell).exists():
                        refused.add(cell.cell)  # what was left out at first is written whole, later
                        continue
                    if entry.round > 1:
                        continue
                    self._open[cell.cell] = (self._begin(sweep, cell.cell, cell.run, cell.group, cell.parameters), {})
                run, shown = self._open[cell.cell]
                found = dict(points(entry))
                for name, value in found.items():
                    shown.setdefault(name, []).append((entry.round, value))
                run.log(found, step=entry.round)

    def close(self) -> None:
        """Runs of cells that did not come to their end are closed as failed; the next sweep replaces them."""
        for run, _ in self._open.values():
            with contextlib.suppress(Exception):
                run.finish(exit_code=1)
        self._open.clear()

    def write(self, sweep: str, records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Written:
        """Runs that are there with the same numbers stay; others of the same cell are replaced."""
        new = 0
        with self._explained():
            for item in (track(record, outcome) for record in records):
                new += self._write(sweep, item)
        return Written("Weights & Biases", str(self.folder), new, len(records) - new, self._look())

    def _write(self, sweep: str, item: Track) -> bool:
        cell = item.tags["autoflip.cell"]
        mark, opened = self._mark(sweep, cell), self._open.pop(cell, None)
        before = _read(mark)
        if before.get("digest") == item.digest:
            return False
        run, shown = opened or (None, {})
        if run is not None and not begins(item.series, shown):
            run.finish(exit_code=1)
            run = None
        if run is None:
            self._remove(before)
            run, shown = self._begin(sweep, cell, item.run, item.group, item.parameters), {}
        for step, values in _by_step(item.series, shown):
            run.log(values, step=step)
        run.summary.update(item.final)
        run.config.update({"autoflip": {name.removeprefix("autoflip."): text for name, text in item.tags.items()}})
        run.finish()
        write_whole(mark, json.dumps({**_read(mark), "digest": item.digest}))
        return True

    def _begin(self, sweep: str, cell: str, name: str, group: str, parameters: Mapping[str, str]) -> Any:
        """An open run; where it lies is noted, so that it is removed if it never ends."""
        mark = self._mark(sweep, cell)
        mark.parent.mkdir(parents=True, exist_ok=True)
        self._remove(_read(mark))
        run = self._wandb.init(
            project=sweep, name=shortened(name), group=group, job_type="cell", dir=str(self.folder), mode="offline",
            reinit="create_new", config=dict(parameters),
            settings=self._wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )  # fmt: skip
        write_whole(mark, json.dumps({"folder": Path(run.dir).parent.name}))
        return run

    def _remove(self, mark: Mapping[str, Any]) -> None:
        """A run of this cell from before; only what this wrote, and only here."""
        name = str(mark.get("folder", ""))
        if name.startswith(_PREFIX) and Path(name).name == name:
            shutil.rmtree(self.folder / "wandb" / name, ignore_errors=True)

    def _mark(self, sweep: str, cell: str) -> Path:
        return self.folder / "autoflip" / sweep / f"{cell}.json"

    def _look(self) -> str:
        return f"wandb sync {self.folder / 'wandb' / _PREFIX}* (uploads them)"

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except AutoflipError:
            raise
        except OSError as error:
            self.close()
            raise StoreError(
                f"--wandb {self.folder}: {unwritable(error, 'give another folder')}; finished cells are kept, run the "
                "same command again"
            ) from error
        except Exception as error:
            self.close()
            why = " ".join(str(error).split())[:600]
            raise StoreError(
                f"--wandb {self.folder}: Weights & Biases failed ({why}); finished cells are kept, run the same "
                "command again"
            ) from error


def shortened(run: str) -> str:
    """A run's name that the server takes: its group gives up letters; seed and cell, which tell it apart, stay.

    >>> shortened("fedavg,seed=3,0123456789abcdef")
    'fedavg,seed=3,0123456789abcdef'
    """
    group, *end = run.rsplit(",", 2)
    return ",".join([group[: _LONGEST - len(run) + len(group)], *end]) if len(run) > _LONGEST else run


def _read(mark: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_regular(mark))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _by_step(series: Series, shown: Series) -> Iterator[tuple[int, dict[str, float]]]:
    """What is missing of ``series``, by round; a run's steps only rise."""
    rest: dict[int, dict[str, float]] = {}
    for name, known in series.items():
        for step, value in known[len(shown.get(name, [])) :]:
            rest.setdefault(step, {})[name] = value
    return iter(sorted(rest.items()))
