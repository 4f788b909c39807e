"""Numbers of a processor and of a GPU do not meet in one folder unless the scenario says which cell is of which.

The two differ in their last bits, and training makes more of them. ``device: cpu`` and ``device: cuda`` are part of a
cell's configuration, so of its name. ``device: auto`` is whatever there is where the cell runs: all such cells of a
folder are of one kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

from autoflip_secure.errors import StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.training.base import resolve_device

_CHOICE: Literal["auto"] = "auto"
_SAID = {"cpu": "a processor (cpu)", "cuda": "a GPU (cuda)"}
_WAY_OUT = (
    "`device: auto` names neither, and their last digits differ; continue on a machine like the one before, or run the "
    "sweep in another folder, with `device: cpu` or `device: cuda`, which are part of a cell's name"
)


class OneDevice:
    """What the cells that leave the choice to the machine were computed on, or are about to be: one kind for all."""

    def __init__(self) -> None:
        self._first: tuple[str, Path] | None = None

    @classmethod
    def of(cls, folder: Path, records: Iterable[RunRecord], todo: Sequence[Block]) -> Self:
        """Of a folder with ``records``, in which the blocks of ``todo`` are about to run here.

        Raises:
            StoreError: they would be computed on another kind of device than what is there.
        """
        found = cls()
        if any(spec.settings.device == _CHOICE for block in todo for spec in block.cells):  # records are read for it
            found.take(records, folder)
            found._begin(folder)
        return found

    def take(self, records: Iterable[RunRecord], folder: Path) -> None:
        """More records, found in ``folder`` or about to be written there.

        Raises:
            StoreError: one was computed on another kind of device than those before it.
        """
        for record in records:
            if record.config.get("device") != _CHOICE:
                continue
            kind = record.trainer.device.partition(":")[0]
            first, place = self._first = self._first or (kind, folder)
            if kind != first:
                where = "others of it" if folder == place else f"those in {place}"
                raise StoreError(
                    f"{folder}: its cell {record.cell} was computed on {_said(kind)}, and {where} on {_said(first)}; "
                    f"{_WAY_OUT}"
                )

    def _begin(self, folder: Path) -> None:
        now = resolve_device(_CHOICE).type
        first, _ = self._first = self._first or (now, folder)
        if now != first:
            raise StoreError(
                f"{folder}: its cells were computed on {_said(first)}, and this machine would compute on {_said(now)}; "
                f"{_WAY_OUT}"
            )


def _said(kind: str) -> str:
    return _SAID.get(kind, kind)
