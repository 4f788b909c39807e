"""TensorBoard: one event file per cell, which grows while the cell runs; finished ones have a digest of their numbers.

A run that was shown while it ran is completed in its place, if what was shown is what the record says. Every other one
is put in place whole.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.durable import unwritable
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.trackers.base import Tracker, Written, missing
from autoflip_secure.scenarios.trackers.flattened import Begun, Series, Track, begins, points, track

_MARK = "autoflip.digest"  # file in a run's folder

Summaries = Iterable[tuple[int, Any]]  # (step, protocol buffer)


class TensorBoard(Tracker):
    """One event file per cell, DIR/SWEEP/RUN, live: its series, final numbers, parameters (HPARAMS, seeds grouped)."""

    live: ClassVar[bool] = True

    def __init__(self, place: str, sweep: str) -> None:
        """Make the folder."""
        try:
            from torch.utils import tensorboard as _  # noqa: F401
        except ImportError as error:
            raise InputError(missing("--tensorboard", "tensorboard", error)) from error
        self.folder = Path(place)
        self._shown: dict[str, Series] = {}  # by cell: what was written of it while it ran
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def rounds(self, sweep: str, entries: Sequence[tuple[Begun, RoundRecord]]) -> None:
        """Append to the event file of each cell; a run that is there and finished is left alone."""
        from torch.utils.tensorboard import summary

        scalar: Any = summary.scalar
        new: dict[Path, list[tuple[int, Any]]] = {}
        try:
            for cell, entry in entries:
                place = self.folder / sweep / cell.run
                if cell.cell not in self._shown:
                    if (place / _MARK).exists():
                        continue
                    shutil.rmtree(place, ignore_errors=True)
                    place.mkdir(parents=True)
                    self._shown[cell.cell] = {}
                for name, value in points(entry):
                    self._shown[cell.cell].setdefault(name, []).append((entry.round, value))
                    new.setdefault(place, []).append((entry.round, scalar(name, value)))
            for place, summaries in new.items():
                _append(place, summaries)
        except OSError as error:
            self._shown.clear()  # nobody knows what was written: these runs are put in place anew, whole
            raise self._unwritable(error) from error

    def write(self, sweep: str, records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Written:
        """One folder per cell: completed, or put in place whole."""
        new = 0
        try:
            (self.folder / sweep).mkdir(exist_ok=True)
            for left_over in (self.folder / sweep).glob(".writing-*"):
                shutil.rmtree(left_over)
            for item in (track(record, outcome) for record in records):
                new += self._write(self.folder / sweep / item.run, item)
        except OSError as error:
            raise self._unwritable(error) from error
        look = f"tensorboard --logdir {self.folder}"
        return Written("TensorBoard", str(self.folder), new, len(records) - new, look)

    def _write(self, place: Path, item: Track) -> bool:
        mark = place / _MARK
        if mark.is_file() and read_regular(mark) == item.digest.encode():
            return False
        shown = self._shown.pop(item.tags["autoflip.cell"], None)
        if shown is not None and place.is_dir() and begins(item.series, shown):
            _append(place, _rest(item, shown))
            mark.write_text(item.digest, encoding="utf-8")
            return True
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=place.parent))
        _append(temporary, _rest(item, {}))
        (temporary / _MARK).write_text(item.digest, encoding="utf-8")
        with contextlib.suppress(OSError):  # a temporary folder is its owner's alone; some file systems know no owners
            temporary.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        temporary.rename(place)
        return True

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"--tensorboard {self.folder}: {unwritable(error, 'give another folder')}; finished cells are kept, run "
            "the same command again"
        )


def _rest(item: Track, shown: Series) -> Iterator[tuple[int, Any]]:
    """What is to be written of a run of which ``shown`` is there."""
    from torch.utils.tensorboard import summary

    make: Any = summary
    last = max((known[-1][0] for known in item.series.values()), default=0)
    for part in make.hparams(item.parameters, item.final):
        yield 0, _grouped(part, item.group)
    for name, known in item.series.items():
        for step, value in known[len(shown.get(name, [])) :]:
            yield step, make.scalar(name, value)
    for name, value in item.final.items():
        yield last, make.scalar(name, value)
    for name, text in item.tags.items():
        yield last, make.text(name, text)


def _grouped(part: Any, group: str) -> Any:
    """The start of a session, of the group in which TensorBoard shows all seeds of a setting; the rest as it is."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for value in part.value:
        data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        if data.HasField("session_start_info"):
            data.session_start_info.group_name = group
            value.metadata.plugin_data.content = data.SerializeToString()
    return part


def _append(place: Path, summaries: Summaries) -> None:
    """Add events to the one event file of a run, which is made when absent."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    there = next(place.glob("events.out.tfevents.*"), None)
    now = time.time()
    with open(there or place / f"events.out.tfevents.{int(now)}.autoflip", "ab") as file:
        writer = RecordWriter(file)
        if there is None:
            writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for step, summary in summaries:
            writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
