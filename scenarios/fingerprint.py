"""What a result depends on beside its configuration: the code and the data that the configuration names.

The digest covers the resolved cells, this package's source, the versions of the libraries that compute, the bytes of a
user's data files, and the source of a user's model: its module and what that imports by name from the same place.
Folders of well-known data sets, and what code reads or imports while it runs, are out of sight.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from autoflip_secure.ownership import PACKAGES
from scenarios.models import Custom
from scenarios.sweep import Plan

_INSTALLED = {"site-packages", "dist-packages"}


def fingerprint(plan: Plan) -> str:
    """16 hexadecimal digits; equal digests mean that a finished run can be taken up instead of a new one."""
    settings = [cell.settings for cell in plan.cells]
    factories = sorted({s.model.factory for s in settings if isinstance(s.model, Custom)})
    places = dict.fromkeys(s.data.places() for s in settings)
    parts = {
        "cells": plan.keys,
        "libraries": {name: version(name) for name in ("torch", "numpy")},
        "package": _own_source(),
        "models": {name: _digest(sources(name.partition(":")[0])) for name in factories},
        "data": [_digest(filter(Path.is_file, map(Path, files))) for files in places],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def sources(module: str) -> list[Path]:
    """The file of ``module`` and those that it imports, in turn, from the folder its top-level name lies in.

    Of an installed package only its own files are followed. A module that is not there gives no files: building the
    model says so better.
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
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
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


@cache
def _own_source() -> str:
    home = Path(__file__).resolve().parents[1]
    return _digest(sorted(path for package in PACKAGES for path in (home / package).rglob("*.py")))


def _digest(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError:  # loading the data says so better
            content = b""
        total.update(f"{path.name} {len(content)}\n".encode() + content)
    return total.hexdigest()
