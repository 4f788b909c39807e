"""What results depend on besides their configuration: data, the source of users' code, this package, libraries.

A configuration names files and functions; results must not be taken up after what lies behind those names has changed.
The store compares what its cells read (:func:`input_digests`); the pytest plugin keeps whole runs under everything
(:func:`run_digest`). Such a source is its module and what that imports by name from the same place. What code reads
or imports while it runs is out of sight.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical, digest
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.scenarios.config.plan import Plan
from autoflip_secure.scenarios.config.plugin_families import in_settings
from autoflip_secure.scenarios.config.settings import Settings
from autoflip_secure.scenarios.data.datasets import Dataset
from autoflip_secure.scenarios.plugins.factories import source_file

_INSTALLED = {"site-packages", "dist-packages"}
_imported: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()  # users' code -> its source when first seen


def _load(settings: Settings) -> Dataset:
    return settings.data.load()


def input_digests(
    cells: Iterable[Settings],
    load: Callable[[Settings], Dataset] = _load,
    only: Container[str] | None = None,
) -> dict[str, str]:
    """What is read -> SHA-256 in hexadecimal, each once; what is read is named as the scenario file writes it.

    Args:
        cells: what reads.
        load: gives the data of a cell as their source does, for callers that have them already.
        only: names of what is looked at; None: everything.

    Raises:
        InputError: data or source cannot be read.
    """
    found: dict[str, str] = {}
    for settings in cells:
        for what, make in _inputs(settings, load).items():
            if what not in found and (only is None or what in only):
                found[what] = make()
    return found


def read_by(settings: Settings) -> list[str]:
    """What one cell reads, named as :func:`input_digests` does."""
    return list(_inputs(settings, _load))


def _inputs(settings: Settings, load: Callable[[Settings], Dataset]) -> dict[str, Callable[[], str]]:
    """What one cell reads -> its digest, made when it is asked for."""
    data = canonical(settings.data.model_dump(mode="json"))
    found: dict[str, Callable[[], str]] = {f"data {data}": lambda: _of_dataset(load(settings))}
    for file in settings.model.reads():
        found[f"weights {file}"] = partial(_of_weights, file)
    for path, plugin in in_settings(settings):
        code = plugin.users_code()
        if code is None:
            continue
        key, written, target = code
        place = f"{path}.{key} = {written!r}"
        found[f"source of {path}.{key} {written} and what it imports"] = partial(_of_source, place, target)
    return found


def run_digest(plan: Plan) -> str:
    """16 hexadecimal digits; equal digests mean that a finished run can be taken up instead of a new one.

    Raises:
        InputError: data or source cannot be read.
    """
    parts = {
        "cells": plan.keys,
        **({"tuning": [str(plan.outcome), *plan.tuning.stage.keys]} if plan.tuning else {}),
        "libraries": {name: version(name) for name in ("torch", "numpy")},
        "package": own_source(),
        "inputs": input_digests(cell.settings for cell in plan.cells),
    }
    return digest(parts)


def sources(module: str) -> list[Path]:
    """The file of ``module`` and those that it imports, in turn, from the folder its top-level name lies in.

    Of an installed package only its own files are followed. A module that is not there gives no files.
    """
    top = module.partition(".")[0]
    root = _root(top)
    if root is None:
        return []
    only = top if _INSTALLED & set(root.parts) else None
    found: set[Path] = set()
    todo = [module]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or (only is not None and name.partition(".")[0] != only):
            continue
        seen.add(name)
        if "." in name:
            todo.append(name.rpartition(".")[0])
        path = _file(root, name)
        if path is not None and path not in found:
            found.add(path)
            todo += _imports(path, name if path.name == "__init__.py" else name.rpartition(".")[0])
    return sorted(found)


def _of_dataset(data: Dataset) -> str:
    """Over shapes and bytes of all samples, labels and owners."""
    sums = hashlib.sha256()
    for tensor in (data.x_train, data.y_train, data.x_test, data.y_test, data.groups):
        if tensor is None:
            sums.update(b"none")
            continue
        sums.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        sums.update(tensor.contiguous().numpy().tobytes())
    return sums.hexdigest()


def _of_weights(path: Path) -> str:
    try:
        return _of_files([path])
    except OSError as error:
        raise InputError(f"model.weights = {path}: cannot be read ({error.strerror}); put it back") from error


def _of_source(place: str, target: str) -> str:
    """Over the files that the module of ``module:name`` is made of; "built in" when there are none."""
    own, name = source_file(place, target), target.partition(":")[0]
    if own is None:
        return "built in"
    try:
        now = _of_files(sources(name) or [own])
    except OSError as error:
        way_out = "make it readable" if isinstance(error, PermissionError) else "put it back, or see to its drive"
        raise InputError(f"{place}: {error.filename} cannot be read ({error.strerror}); {way_out}") from error
    if (module := sys.modules.get(name)) is not None and _imported.setdefault(module, now) != now:
        raise InputError(
            f"{place}: its source has changed since this process imported it, so what would run "
            "is no longer what is written there; start Python anew (in a notebook: restart the kernel)"
        )
    return now


@cache
def own_source() -> str:
    """SHA-256 over all modules of this package, in hexadecimal: what a version number says, and more exactly."""
    folders = os.walk(Path(__file__).parents[2], followlinks=True)  # links, in a source checkout
    return _of_files(
        sorted(Path(folder, name) for folder, _, names in folders for name in names if name.endswith(".py"))
    )


def _of_files(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        content = read_regular(path)
        total.update(f"{path.name} {len(content)}\n".encode() + content)
    return total.hexdigest()


def _root(top: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or []) or ([spec.origin] if spec.has_location and spec.origin else [])
    return Path(places[0]).parent if places else None


def _file(root: Path, name: str) -> Path | None:
    base = root.joinpath(*name.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def _imports(path: Path, package: str) -> Iterator[str]:
    try:
        tree = ast.parse(read_regular(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ([base] if base else [])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
