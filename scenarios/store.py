"""A results folder: one writer, a manifest, one JSON file per cell, each written whole or not at all.

.. code-block:: text

    runs/<name>/
      scenario.yaml        the scenario as it was run; loads to the same cells
      manifest.json        schema number, hash of the scenario, cells, blocks, fingerprints of what was read, private
                           cells that were begun
      ledger/<hash>.json   what a private cell is about to release, and every attempt at it
      cells/<hash>.json    one RunRecord each, with a checksum: temporary file, fsync, rename, fsync of the folder
      log.txt              what happened when
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from filelock import FileLock, Timeout
from pydantic import ValidationError

from autoflip_secure.errors import StoreError
from autoflip_secure.record import SCHEMA_VERSION, RunRecord
from scenarios.checksums import sealed, unsealed
from scenarios.config import content_hash
from scenarios.loading import to_yaml
from scenarios.regular import read_regular
from scenarios.sweep import Plan

STORE_SCHEMA = 1
_MISSING = "(not there)"


def write_atomically(path: Path, text: str) -> None:
    """Write ``path`` whole or not at all: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Store:
    """The results folder of one scenario. Use as a context manager: it holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / "cells"
        self.damaged: list[str] = []  # what was moved aside, for the user
        self._lock = FileLock(folder / ".lock", timeout=0)

    def __enter__(self) -> Self:
        """Make the folder and take its lock.

        Raises:
            StoreError: the folder cannot be made or written, or another run holds it.
        """
        with self.explained():
            self.cells.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise StoreError(
                    f"{self.folder}: another run is writing to this folder; wait for it, or give another one with --out"
                ) from None
            for left_over in [*self.folder.glob(".*.tmp"), *self.cells.glob(".*.tmp")]:
                left_over.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def accept(self, plan: Plan) -> None:
        """Check that the folder belongs to the same scenario, or holds no finished cell; nothing is written.

        Raises:
            StoreError: the folder holds cells of another scenario (the differences are listed), or of none.
        """
        if not any(self.cells.glob("*.json")):
            return
        if not (self.folder / "manifest.json").exists():
            raise StoreError(
                f"{self.folder}: holds cells but no manifest.json; give another folder with --out, or remove it"
            )
        old, new = read_manifest(self.folder), _manifest(plan)
        if old["scenario_hash"] != new["scenario_hash"] or old["blocks"] != new["blocks"]:
            raise StoreError(self._difference(plan))

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
        before: dict[str, str] = read_manifest(self.folder).get("inputs", {}) if finished else {}
        changed = [(what, before[what], now) for what, now in (inputs or {}).items() if before.get(what, now) != now]
        if changed:
            lines = [f"  {what}: sha256 {old[:12]} -> {now[:12]}" for what, old, now in changed]
            way_out = "give another folder with --out, or put back what was there"
            raise StoreError(
                "\n".join(
                    [f"{self.folder}: its results were made from something else; {way_out}. What changed:", *lines]
                )
            )
        manifest = {**_manifest(plan), "inputs": {**before, **(inputs or {})}, "begun": sorted(self.begun())}
        with self.explained():
            write_atomically(self.folder / "scenario.yaml", to_yaml(plan.written))
            write_atomically(self.folder / "manifest.json", json.dumps(manifest, indent=1))

    def begun(self) -> set[str]:
        """Private cells that were ever begun here, as far as the manifest says."""
        try:
            return begun_cells(read_manifest(self.folder))
        except StoreError:  # none yet, or a damaged one of a folder without finished cells
            return set()

    def note_begun(self, keys: Iterable[str]) -> None:
        """Private cells are about to run, and their ledgers are written: from now on a missing ledger shows."""
        manifest = read_manifest(self.folder)
        manifest["begun"] = sorted(begun_cells(manifest) | set(keys))
        with self.explained():
            write_atomically(self.folder / "manifest.json", json.dumps(manifest, indent=1))

    def load(self, keys: list[str]) -> dict[str, RunRecord]:
        """The records of ``keys`` that are there. A damaged file is moved aside and noted in :attr:`damaged`."""
        records = {}
        for key in keys:
            path = self.cells / f"{key}.json"
            with self.explained():  # also of a folder that may not be looked into
                there = os.path.lexists(path)  # a link to nothing is no result, and is not replaced silently either
            if not there:
                continue
            try:
                records[key] = read_record(path)
            except StoreError as error:
                self._set_aside(path, str(error))
        return records

    def foreign(self, keys: list[str]) -> list[str]:
        """Cells that lie in the folder and are not of ``keys``: made by another scenario, or copied here."""
        return sorted({path.stem for path in self.cells.glob("*.json")} - set(keys))

    def save(self, record: RunRecord) -> None:
        """Write one cell.

        Raises:
            StoreError: the disk is full or the folder unwritable; what was finished before is kept.
        """
        with self.explained():
            write_atomically(self.cells / f"{record.cell}.json", sealed(record.model_dump_json()))

    def log(self, text: str) -> None:
        """Append a line to ``log.txt``; a log that cannot be written stops nothing."""
        with contextlib.suppress(OSError), (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def _set_aside(self, path: Path, why: str) -> None:
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        with self.explained():
            path.rename(aside)
        self.damaged.append(f"{why}; moved to {aside.name}, the cell is run again")
        self.log(self.damaged[-1])

    def _difference(self, plan: Plan) -> str:
        try:
            old = yaml.safe_load(read_regular(self.folder / "scenario.yaml").decode("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            old = {}
        lines = [f"  {key}: {before} -> {after}" for key, before, after in difference(old, plan.written)]
        if not lines:
            lines = ["  the file is the same; another version of autoflip-secure reads it otherwise"]
        way_out = "give another folder with --out, or remove this one"
        return "\n".join([f"{self.folder}: holds the results of another scenario; {way_out}. What changed:", *lines])

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the system says when a file cannot be written into a :class:`StoreError` with a way out."""
        try:
            yield
        except OSError as error:
            kept = sum(1 for _ in self.cells.glob("*.json")) if os.path.isdir(self.cells) else 0
            after = f"; {kept} finished cells are kept, run the same command again to continue"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StoreError(
                    f"{self.folder}: no space left on the disk ({error.strerror}); free some{after}"
                ) from error
            why = error.strerror or str(error)
            way_out = "give a folder you may write to with --out" + (after if kept else "")
            raise StoreError(f"{self.folder}: cannot be written ({why}); {way_out}") from error


def _manifest(plan: Plan) -> dict[str, Any]:
    manifest = plan.manifest()
    return {"schema": STORE_SCHEMA, "scenario_hash": content_hash({"cells": manifest["cells"]}), **manifest}


def read_record(path: Path) -> RunRecord:
    """One cell's file.

    Raises:
        StoreError: unreadable, not JSON, not a record, changed after it was written, of another schema version, or
            another cell than its name says.
    """
    try:
        record = RunRecord.model_validate_json(unsealed(read_regular(path)))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    except StoreError as error:
        raise StoreError(f"{path}: is damaged ({error})") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: is damaged ({at + ': ' if at else ''}{first['msg']})") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: is damaged (not JSON: {error})") from error
    if record.schema_version != SCHEMA_VERSION:
        raise StoreError(f"{path}: has schema version {record.schema_version}; this program reads {SCHEMA_VERSION}")
    if record.cell != path.stem or content_hash(record.config) != record.cell:
        raise StoreError(f"{path}: is damaged (its configuration does not have the hash of its name)")
    return record


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a results folder.

    Raises:
        StoreError: there is none, or it is damaged or of another format.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(read_regular(path))
    except FileNotFoundError:
        raise StoreError(
            f"{folder}: is not a results folder (no manifest.json); give a folder that a sweep has made"
        ) from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{path}: is damaged ({error}); restore it, or run the sweep again in an empty folder"
        ) from error
    keys = {"schema", "scenario_hash", "name", "cells", "blocks"}
    if not isinstance(manifest, dict) or manifest.get("schema") != STORE_SCHEMA or not keys <= set(manifest):
        raise StoreError(
            f"{path}: not a manifest of format {STORE_SCHEMA}; use the version that wrote it, or another folder"
        )
    return manifest


def begun_cells(manifest: dict[str, Any]) -> set[str]:
    """Private cells that were begun, as the manifest says."""
    begun = manifest.get("begun", [])
    return {key for key in begun if isinstance(key, str)} if isinstance(begun, list) else set()


def difference(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Where two plain structures differ, as (dotted key, old, new). What makes no numbers does not count.

    >>> difference({"rounds": 60, "seeds": [1]}, {"rounds": 40, "seeds": [1], "clients": 9})
    [('clients', '(not there)', 9), ('rounds', 60, 40)]
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new} - ({"name", "question", "outcome"} if not path else set()))
        return [
            found
            for key in keys
            for found in difference(old.get(key, _MISSING), new.get(key, _MISSING), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [(path, old, new)]
