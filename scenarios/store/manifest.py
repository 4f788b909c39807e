"""Whether a folder holds results, and its manifest: what can be said of a folder before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from autoflip_secure.errors import StoreError
from autoflip_secure.files.checksums import without_checksum
from autoflip_secure.files.first_bytes import instead
from autoflip_secure.files.regular_files import gone, parse_json, read_regular
from autoflip_secure.terminal.counting import some
from autoflip_secure.terminal.near_names import nearby

if TYPE_CHECKING:
    from autoflip_secure.scenarios.config.plan import Plan

STORE_SCHEMA = 1
MORE_SEEDS: Final = "more_seeds"
"""Name of the folder, inside one of results, with the seeds that ``gate --more-seeds`` ran besides."""


def manifest_of(plan: Plan) -> dict[str, Any]:
    """What a new folder of ``plan`` says about itself."""
    from autoflip_secure.scenarios.config.settings import content_hash

    manifest = plan.manifest()
    return {"schema": STORE_SCHEMA, "scenario_hash": content_hash({"cells": manifest["cells"]}), **manifest}


def check_results(folder: Path) -> None:
    """A folder that a report can be written from: it has cells, or at least a manifest.

    Raises:
        StoreError: it is none; says why, and where there is one.
    """
    if not cell_files(folder):
        read_manifest(folder)


def scenario_file(folder: Path) -> Path:
    """The scenario of a results folder.

    Raises:
        StoreError: there is none.
    """
    path = folder / "scenario.yaml"
    if gone(path):
        _check_folder(folder)
        raise StoreError(
            f"{folder}: not a results folder (it has no scenario.yaml){results_near(folder)}; give the folder of "
            "a sweep"
        )
    return path


def cell_files(folder: Path) -> dict[str, Path]:
    """Name of a cell -> its file, of a folder that a sweep has written to.

    Raises:
        StoreError: no such folder, an empty one, or one that cannot be read.
    """
    try:
        _check_folder(folder)
        if not any(folder.iterdir()):
            raise StoreError(f"{folder}: is empty; run the sweep first: autoflip-secure sweep SCENARIO --out {folder}")
        cells = folder / "cells"
        found = sorted(cells.iterdir()) if cells.exists() else []  # glob would keep quiet about what it may not read
        return {path.stem: path for path in found if path.suffix == ".json"}
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def _check_folder(folder: Path) -> None:
    try:
        if folder.is_dir():
            return
        what = "is a file" if folder.exists() else f"no such folder{nearby(folder)}"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    raise StoreError(f"{folder}: {what}; give the folder of a sweep")


class DamagedManifestError(StoreError):
    """There is no manifest, or none that can be used; cells may be there all the same."""

    def __init__(self, why: str, way_out: str) -> None:
        super().__init__(f"{why}; {way_out}")
        self.why = why


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a results folder; one without a checksum, from an older version, is taken as it is.

    Raises:
        DamagedManifestError: there is none, it cannot be read or is damaged.
        StoreError: it is of another format; or there is no such folder.
    """
    path = folder / "manifest.json"
    again = "run the same sweep again in this folder, which keeps whole cells; or restore it"
    content = b""
    try:
        content = read_regular(path)
        manifest = without_checksum(parse_json(content))
    except (FileNotFoundError, NotADirectoryError):
        _check_folder(folder)
        raise DamagedManifestError(
            f"{folder}: is not a results folder (no manifest.json){results_near(folder)}",
            "give the folder of a sweep",
        ) from None
    except OSError as error:
        raise DamagedManifestError(f"{path}: cannot be read ({error.strerror})", again) from error
    except (ValueError, StoreError) as error:
        what, _, way_out = (instead(content, "a manifest", again, "text", "empty") or "").partition("; ")
        raise DamagedManifestError(f"{path}: {what or f'is damaged ({error})'}", way_out or again) from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if isinstance(schema, int) and schema != STORE_SCHEMA:
        raise StoreError(
            f"{path}: is a manifest of format {schema}, not {STORE_SCHEMA}; use the version that wrote it, or another "
            "folder"
        )
    if not _is_manifest(manifest):
        raise DamagedManifestError(f"{path}: is damaged (it is not a manifest of format {STORE_SCHEMA})", again)
    return dict(manifest)


def _is_manifest(manifest: Any) -> bool:
    """Whether everything that is read of it is there, and of the type that it should be."""
    keys = {"schema": int, "scenario_hash": str, "name": str, "cells": list, "blocks": list}
    if not isinstance(manifest, dict) or not all(isinstance(manifest.get(key), kind) for key, kind in keys.items()):
        return False
    cells = all(isinstance(one, dict) and isinstance(one.get("cell"), str) for one in manifest["cells"])
    inputs = manifest.get("inputs", {})
    return cells and isinstance(inputs, dict) and all(isinstance(one, str) for one in inputs.values())


def results_near(folder: Path) -> str:
    """``, but …`` for a folder that holds no results: those above, below or beside it that do."""
    try:
        if (folder.absolute().parent / "manifest.json").is_file():
            return f", but {folder.absolute().parent} is one"
        inside = sorted(path.parent for path in folder.glob("*/manifest.json"))
    except OSError:
        return ""
    return f", but there is {some([*map(str, inside)], 2)}" if inside else ""


def begun_cells(manifest: dict[str, Any]) -> set[str]:
    """Private cells that were begun, as the manifest says."""
    begun = manifest.get("begun", [])
    return {key for key in begun if isinstance(key, str)} if isinstance(begun, list) else set()
