"""A results folder as a reader finds it: what can be shown, and in one sentence each what is missing or left out.

Nothing is written, nothing is moved, and nothing is dropped without a note: a cell of another schema version, a damaged
file, a cell that another scenario made, a scenario file that does not belong to the cells.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.files.regular_files import parse_json, read_regular
from autoflip_secure.records.run import SCHEMA_VERSION, RunRecord
from autoflip_secure.records.upgrade import READABLE
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, load
from autoflip_secure.scenarios.config.settings import content_hash
from autoflip_secure.scenarios.store.index import CellIndex
from autoflip_secure.scenarios.store.ledgers import without_ledger
from autoflip_secure.scenarios.store.manifest import DamagedManifestError, begun_cells, cell_files, read_manifest
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.tuning import with_choices
from autoflip_secure.terminal.counting import count_of, some

NAMED = 4  # names in one sentence


@dataclass(frozen=True)
class Results:
    """What a results folder holds."""

    folder: Path
    scenario: dict[str, Any]  # as in scenario.yaml; only a name when that cannot be read
    records: list[RunRecord]  # in the order of the manifest
    missing: list[dict[str, Any]]  # cell, algorithm, seed, axes, config (None: unknown) of what has no usable file
    notes: list[str]  # what was left out or does not fit, a sentence each

    @property
    def remarks(self) -> list[str]:
        """The notes, and how many cells are missing."""
        missing, cells = len(self.missing), len(self.records) + len(self.missing)
        return [*self.notes, *([f"{missing} of {cells} cells are missing"] if missing else [])]


def read_results(folder: Path, *, keep_index: bool = False) -> Results:
    """Read every cell of a results folder that can be read.

    Args:
        folder: of a sweep, finished or not.
        keep_index: write the index of a large folder, where it has none or not the right one: for callers that write
            into it anyway.

    Raises:
        StoreError: no such folder, nothing in it that a sweep has made, or no cell that this version can read.
    """
    files = cell_files(folder)
    manifest, notes = _manifest(folder, files)
    scenario, loaded, more = _scenario(folder, manifest)
    notes += more
    configs = {cell.key: cell.config for cell in loaded.cells} if loaded else {}
    expected = manifest["cells"] if manifest else [{"cell": key} for key in files]
    foreign = sorted(set(files) - {entry["cell"] for entry in expected})
    if foreign and not set(files) - set(foreign):
        raise StoreError(
            f"{folder}: none of its {len(files)} cells is of the sweep in manifest.json ({some(foreign, NAMED)}); "
            "they were copied from another sweep: report on that sweep's folder, or run this one again elsewhere"
        )
    if foreign:
        notes.append(f"{name_foreign(foreign)}.")
    records: list[RunRecord] = []
    missing: list[dict[str, Any]] = []
    other: dict[int, list[str]] = {}  # schema version -> cells
    damaged: list[str] = []
    index = CellIndex.of(folder, len(expected))
    for entry in expected:
        key = entry["cell"]
        if key in files:
            try:
                records.append(read_record(files[key], index))
                continue
            except StoreError as error:
                version = _version(files[key])
                if version is None or version in READABLE:
                    damaged.append(str(error).removeprefix(f"{folder}{os.sep}").replace("\n", " "))
                else:
                    other.setdefault(version, []).append(key)
        missing.append({"axes": {}, "algorithm": "?", "seed": None, **entry, "config": configs.get(key)})
    for version, keys in other.items():
        notes.append(
            f"{count_of(len(keys), 'cell')} left out because of another schema version ({version}; this version reads "
            f"up to {SCHEMA_VERSION}): {some(keys, NAMED)}. Report with the version that wrote them, or run the sweep "
            "again in a new folder."
        )
    notes += [f"Left out: {text}; the next sweep in this folder runs the cell again." for text in damaged]
    if not records:
        why = " ".join(notes[:NAMED]) or "none of its cells is finished."
        raise StoreError(f"{folder}: nothing to report on: {why}{'' if other else ' Run the sweep first.'}")
    if keep_index and index is not None:
        index.write()
    begun = begun_cells(manifest or {}) | {record.cell for record in records if record.privacy is not None}
    notes += without_ledger(folder, begun)
    return Results(folder, scenario, records, missing, notes)


def name_foreign(cells: Sequence[str]) -> str:
    """What is said of cells that lie in a folder without being of its sweep."""
    text = "1 cell is" if len(cells) == 1 else f"{len(cells)} cells are"
    return f"{text} not of this sweep (made by another scenario, or copied here) and left out: {some(cells, NAMED)}"


def _manifest(folder: Path, files: dict[str, Path]) -> tuple[dict[str, Any] | None, list[str]]:
    """The manifest; without a usable one the cells speak for themselves, and the reader is told."""
    try:
        manifest = read_manifest(folder)
    except StoreError as error:
        if not files:
            raise
        unknown = "cells are reported as they are, and whether some are missing is not known"
        why = error.why if isinstance(error, DamagedManifestError) else str(error).split(";", maxsplit=1)[0]
        return None, [f"{why}: {unknown}."]
    if content_hash({"cells": manifest["cells"]}) != manifest["scenario_hash"]:
        return manifest, ["manifest.json was changed after the sweep wrote it: its hash does not fit its cells."]
    return manifest, []


def _scenario(folder: Path, manifest: dict[str, Any] | None) -> tuple[dict[str, Any], LoadedScenario | None, list[str]]:
    """The scenario as written, its cells if this version understands it, and whether it made the manifest's cells."""
    path = folder / "scenario.yaml"
    name = {"name": str(manifest["name"]) if manifest else folder.name}
    try:
        written = Document.parse(read_regular(path).decode("utf-8"), path.name).data
    except (OSError, UnicodeDecodeError, InputError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        return name, None, [f"scenario.yaml cannot be read ({why}); what was asked is taken from the cells alone."]
    try:
        loaded = load(path)
    except AutoflipError as error:
        first = str(error).splitlines()[0]
        return name | written, None, [f"scenario.yaml is not understood by this version ({first})."]
    try:
        loaded = with_choices(folder, loaded)
    except StoreError as error:
        return name | written, None, [f"Its tuning stage cannot be read: {' '.join(str(error).split())}."]
    if manifest and {cell.key for cell in loaded.cells} != {entry["cell"] for entry in manifest["cells"]}:
        return name | written, None, [
            "scenario.yaml is not the one that made these cells (it expands to others); "
            "the settings below are those of the cells."
        ]  # fmt: skip
    return name | written, loaded, []


def _version(path: Path) -> int | None:
    """The schema version that a cell's file says it has; None when it says none."""
    try:
        document = parse_json(read_regular(path))
    except (OSError, ValueError):
        return None
    version = document.get("schema_version") if isinstance(document, dict) else None
    return version if type(version) is int else None
