"""A results folder: one writer, a manifest, one JSON file per cell, each written whole or not at all.

.. code-block:: text

    runs/<name>/
      scenario.yaml        the scenario as it was run; loads to the same cells
      manifest.json        schema number, hash of the scenario, cells, blocks, fingerprints of what was read, private
                           cells that were begun
      ledger/<hash>.json   what a private cell is about to release, and every attempt at it
      cells/<hash>.json    one RunRecord each: temporary file, fsync, rename, fsync of the folder
      tuning/              the stage in which settings are chosen, a results folder of its own (:mod:`.tuning`)
      index.parquet        of a large sweep: what the cells hold, in columns (:mod:`.index`); may be deleted
      models/<hash>.safetensors   the models of a cell, where they were asked for (:mod:`.checkpoints`)
      log.txt              what happened when

Every JSON file carries a checksum (:mod:`.files.checksums`). A manifest that is damaged or gone costs what it
alone knows; every cell carries its own configuration, so whole cells are taken up all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.files.checksums import sealed, with_checksum
from autoflip_secure.files.durable import unwritable, write_whole
from autoflip_secure.files.regular_files import append_regular
from autoflip_secure.records.configs import differences, without
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import load, to_yaml
from autoflip_secure.scenarios.config.plan import Plan
from autoflip_secure.scenarios.store.index import FILE, CellIndex, digest_of
from autoflip_secure.scenarios.store.locks import Held, Lock
from autoflip_secure.scenarios.store.manifest import (
    DamagedManifestError,
    begun_cells,
    manifest_of,
    read_manifest,
)
from autoflip_secure.scenarios.store.reading import in_file, read_record
from autoflip_secure.scenarios.store.tuning import with_choices

WITH_OUT = "give another folder with --out"


class Store:
    """The results folder of one scenario. Use as a context manager: it holds the folder's lock.

    ``elsewhere``: what errors say about another folder, as whoever gave this one has it.
    """

    def __init__(self, folder: Path, elsewhere: str = WITH_OUT) -> None:
        self.folder, self.elsewhere = folder, elsewhere
        self.cells = folder / "cells"
        self.damaged: list[str] = []  # what was moved aside or cannot be known any more, for the user
        self._index: CellIndex | None = None  # of a large sweep, once its cells are loaded
        self._lock = Lock(folder / ".lock", timeout=0)

    def __enter__(self) -> Self:
        """Make the folder and take its lock.

        Raises:
            StoreError: the folder cannot be made or written, or another run holds it.
        """
        with self.explained():
            self.cells.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Held:
                raise StoreError(
                    f"{self.folder}: another run is writing to this folder; wait for it, or {self.elsewhere}"
                ) from None
            kept = (
                ".scenario.yaml.*.tmp",
                ".manifest.json.*.tmp",
                f".{FILE}.*.tmp",
            )  # others may be of a report that is being written
            inside = [(self.folder / name, (".*.tmp",)) for name in ("cells", "ledger", "models")]
            for place, names in ((self.folder, kept), *inside):
                for left_over in (path for name in names for path in place.glob(name)):
                    left_over.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._index is not None:
                self._index.write()
        finally:
            self._lock.release()

    def accept(self, plan: Plan) -> None:
        """Check that the folder belongs to the same scenario, or holds no finished cell; nothing is written.

        Raises:
            StoreError: the folder holds cells of another scenario (the differences are listed), or of none.
        """
        if not any(self.cells.glob("*.json")):
            return
        old, why = self._old_manifest()
        new = manifest_of(plan)
        if old is None:
            self._adopt(plan, why)
        elif old["scenario_hash"] != new["scenario_hash"] or old["blocks"] != new["blocks"]:
            raise StoreError(self.difference(plan))

    def _old_manifest(self) -> tuple[dict[str, Any] | None, str]:
        """The manifest, or None and why there is none that can be used.

        Raises:
            StoreError: it is of another format.
        """
        try:
            return read_manifest(self.folder), ""
        except DamagedManifestError as error:
            there = os.path.lexists(self.folder / "manifest.json")
            return None, error.why if there else f"{self.folder}: its manifest.json is missing"

    def _adopt(self, plan: Plan, why: str) -> None:
        """Without a manifest the cells speak for themselves: they are taken up if they are of this scenario.

        Raises:
            StoreError: scenario.yaml or the cells are of another one.
        """
        try:
            loaded = with_choices(self.folder, load(self.folder / "scenario.yaml"))
            kept = {cell.key for cell in loaded.cells}
        except AutoflipError:
            kept = set()
        if kept and kept != set(plan.keys):
            raise StoreError(self.difference(plan))
        if not kept and not {path.stem for path in self.cells.glob("*.json")} & set(plan.keys):
            raise StoreError(f"{why}, and none of the cells is of this scenario; {self.elsewhere}")

    def _without_manifest(self, why: str) -> None:
        """Move a damaged manifest aside, and say what went with it."""
        path = self.folder / "manifest.json"
        moved = f"moved to {self._aside(path)}; " if os.path.lexists(path) else ""
        self.damaged.append(
            f"{why}; {moved}whole cells are kept by their own configuration; which data and model source they were "
            "made from, and whether private cells were begun that left neither cell nor ledger, is not known"
        )
        self.log(self.damaged[-1])

    def claim(self, plan: Plan, inputs: dict[str, str] | None = None) -> None:
        """Write scenario and manifest: from now on the folder is the plan's.

        Args:
            plan: cells and blocks.
            inputs: what the cells read -> its fingerprint; None leaves what the manifest says.

        Raises:
            StoreError: see :meth:`accept`; or finished cells were made from other data or another model source; or the
                folder cannot be written.
        """
        self.accept(plan)
        finished = any(self.cells.glob("*.json"))
        there = finished or os.path.lexists(self.folder / "manifest.json")
        old, why = self._old_manifest() if there else ({}, "")
        begun = sorted(self.begun())
        if old is None:
            self._without_manifest(why)
        before: dict[str, str] = old.get("inputs", {}) if old and finished else {}
        changed = [(what, before[what], now) for what, now in (inputs or {}).items() if before.get(what, now) != now]
        if changed:
            lines = [f"  {what}: sha256 {old[:12]} -> {now[:12]}" for what, old, now in changed]
            way_out = f"{self.elsewhere}, or put back what was there"
            raise StoreError(
                "\n".join(
                    [f"{self.folder}: its results were made from something else; {way_out}. What changed:", *lines]
                )
            )
        with self.explained():
            write_whole(self.folder / "scenario.yaml", to_yaml(plan.written))
        self._write_manifest({**manifest_of(plan), "inputs": {**before, **(inputs or {})}, "begun": begun})

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        with self.explained():
            write_whole(self.folder / "manifest.json", json.dumps(with_checksum(manifest), indent=1))

    def begun(self) -> set[str]:
        """Private cells that were ever begun here, as far as the manifest says; without one, those with a ledger."""
        try:
            return begun_cells(read_manifest(self.folder))
        except StoreError:  # none yet, or a damaged one
            return {path.stem for path in (self.folder / "ledger").glob("*.json")}

    def note_begun(self, keys: Iterable[str]) -> None:
        """Private cells are about to run, and their ledgers are written: from now on a missing ledger shows."""
        manifest = read_manifest(self.folder)
        self._write_manifest({**manifest, "begun": sorted(begun_cells(manifest) | set(keys))})

    def load(self, keys: list[str]) -> dict[str, RunRecord]:
        """The records of ``keys`` that are there. A damaged file is moved aside and noted in :attr:`damaged`.

        Of many keys those that are there are :class:`.StoredRecord`, and so are those that :meth:`save` gives back.
        """
        records, index = {}, CellIndex.of(self.folder, len(keys))
        for key in keys:
            path = self.cells / f"{key}.json"
            with self.explained():  # also of a folder that may not be looked into
                there = os.path.lexists(path)  # a link to nothing is no result, and is not replaced silently either
            if not there:
                continue
            try:
                records[key] = read_record(path, index)
            except StoreError as error:
                self.set_aside(path, str(error))
        self._index = index
        return records

    def foreign(self, keys: list[str]) -> list[str]:
        """Cells that lie in the folder and are not of ``keys``: made by another scenario, or copied here."""
        return sorted({path.stem for path in self.cells.glob("*.json")} - set(keys))

    def save(self, record: RunRecord) -> RunRecord:
        """Write one cell.

        Returns:
            The record to keep in memory: of a large sweep one that reads itself again when all of it is needed.

        Raises:
            StoreError: the disk is full or the folder unwritable; what was finished before is kept.
        """
        path, text = self.cells / f"{record.cell}.json", sealed(record.model_dump_json())
        with self.explained():
            write_whole(path, text)
        if self._index is None:
            return record
        known = self._index.add(record, digest := digest_of(text))
        return record if known is None else in_file(path, digest, known)

    def log(self, text: str) -> None:
        """Append a line to ``log.txt``; a log that cannot be written stops nothing."""
        with contextlib.suppress(OSError):
            append_regular(self.folder / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def set_aside(self, path: Path, why: str) -> None:
        """Move a damaged file of a cell out of the way, and note it."""
        self.damaged.append(f"{why}; moved to {self._aside(path)}, the cell is run again")
        self.log(self.damaged[-1])

    def _aside(self, path: Path) -> str:
        """Move a file out of the way, over nothing else; its new name."""
        number = 1
        while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{number}")):
            number += 1
        with self.explained():
            path.rename(aside)
        return aside.name

    def difference(self, plan: Plan, way_out: str | None = None) -> str:
        """Why the folder is not of ``plan``: what changed in the scenario."""
        ledgers = any((self.folder / "ledger").glob("*.json"))  # what was released stays released, and is to be counted
        way_out = way_out or (self.elsewhere if ledgers else f"{self.elsewhere}, or remove this one")
        try:
            old = Document.read(self.folder / "scenario.yaml").data
        except InputError:
            old = {}
        idle = ("name", "question", "compare", *(() if plan.written.get("tune") else ("outcome",)))  # make no numbers
        sides = (without(side, *idle) for side in (old, plan.written))
        lines = [f"  {key}: {before} -> {after}" for key, before, after in differences(*sides)]
        if not lines:
            lines = ["  the file is the same; another version of autoflip-secure reads it differently"]
        return "\n".join([f"{self.folder}: holds the results of another scenario; {way_out}. What changed:", *lines])

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the system says when a file cannot be written into a :class:`StoreError` with a way out."""
        try:
            yield
        except OSError as error:
            kept = sum(1 for _ in self.cells.glob("*.json")) if os.path.isdir(self.cells) else 0
            after = f"; {kept} finished cells are kept, run the same command again to continue" if kept else ""
            why = unwritable(error, self.elsewhere)
            raise StoreError(f"{self.folder}: {why}{after}") from error
