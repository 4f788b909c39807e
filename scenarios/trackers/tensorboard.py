"""TensorBoard: one event file per cell. A run's folder is put in place whole, with the digest of its numbers inside."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.durable import unwritable
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.trackers.base import Tracker, Written, missing
from autoflip_secure.scenarios.trackers.flattened import Track, track

_MARK = "autoflip.digest"  # file in a run's folder


class TensorBoard(Tracker):
    """One event file per cell, DIR/SWEEP/RUN: its series, final numbers and parameters (the HPARAMS tab)."""

    def __init__(self, place: str, sweep: str) -> None:
        """Make the folder."""
        try:
            from torch.utils import tensorboard as _  # noqa: F401
        except ImportError as error:
            raise InputError(missing("--tensorboard", "tensorboard", error)) from error
        self.folder = Path(place)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, sweep: str, records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Written:
        """One folder per cell, put in place whole."""
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
        from torch.utils.tensorboard import SummaryWriter, summary

        mark = place / _MARK
        if mark.is_file() and read_regular(mark) == item.digest.encode():
            return False
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=place.parent))
        last = max((points[-1][0] for points in item.series.values()), default=0)
        with SummaryWriter(str(temporary)) as writer:
            hparams: Any = summary.hparams
            for part in hparams(item.parameters, item.final):
                writer.file_writer.add_summary(part)
            for name, points in item.series.items():
                for step, value in points:
                    writer.add_scalar(name, value, step)
            for name, value in item.final.items():
                writer.add_scalar(name, value, last)
            for name, text in item.tags.items():
                writer.add_text(name, text, last)
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
