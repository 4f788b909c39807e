"""A scenario and its changes as Python has them: ``rounds=20``, ``attack__sigma=0.3``, a dictionary for a file."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document, parse_value
from autoflip_secure.scenarios.config.loading import LoadedScenario, load, resolve
from autoflip_secure.terminal.visible import short

_ADVICE = re.compile(r"--set (?P<quote>'?)(?P<path>[\w.]+)=(?P<value>(?(quote)[^']*|[^\s;,]*))(?P=quote)")
_KEY, _QUOTED = re.compile(r"([\w.]+): "), r"'\1': "  # a mapping's key as YAML and as Python have it


def load_changed(
    source: str | Path | Mapping[str, Any], changes: Mapping[str, Any], caller: str, *, small: bool = False
) -> LoadedScenario:
    """The scenario with the keywords of a call, which are called by what the caller wrote.

    Args:
        source: a file, the name of a preset, or what would stand in a file.
        changes: keyword -> value; two underscores stand for the dot of a config path (``attack__sigma``).
        caller: the function that was called, for messages.
        small: its small form, before the changes.

    Raises:
        InputError: with one line per finding: place, key path, value, bound and way out.
    """
    with as_called(changes, caller) as texts:
        if isinstance(source, Mapping):
            return resolve(_document(source, caller), texts, small=small)
        return load(source, texts, small=small)


@contextlib.contextmanager
def as_called(changes: Mapping[str, Any], caller: str) -> Iterator[list[str]]:
    """Inside, an error names a change as the call does, not as the command line would.

    Yields:
        The changes as ``key=value`` of the command line.

    Raises:
        InputError: a keyword names no key, or its value cannot stand in a scenario.
    """
    texts = {key: _change(key, value, caller) for key, value in changes.items()}
    try:
        yield list(texts.values())
    except InputError as error:
        said = str(error)
        for key, text in texts.items():
            said = said.replace(f"--set {short(text)}", f"{caller}(…, {key}={short(repr(changes[key]), 80)})")
        said = _ADVICE.sub(_as_keyword, said)
        error.args = (said,)
        raise


def _as_keyword(advice: re.Match[str]) -> str:
    """``--set 'sweep.attack=[…]'`` as a keyword: ``sweep__attack=[…]``."""
    path, value = advice["path"].replace(".", "__"), advice["value"]
    return f"{path}={'None' if value == 'null' else _KEY.sub(_QUOTED, value)}"


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Inside, modules of ``folder`` can be imported, new ones too; afterwards the import path is as before."""
    importlib.invalidate_caches()
    added = str(folder) not in sys.path
    if added:
        sys.path.append(str(folder))
    try:
        yield
    finally:
        if added and str(folder) in sys.path:
            sys.path.remove(str(folder))


def _document(scenario: Mapping[str, Any], caller: str) -> Document:
    """What a file with the same data would be; numbers and texts that a file cannot hold are refused alike."""
    place = f"{caller}({{…}})"
    data = parse_value(_plain_text(scenario, place), (), place)
    return Document(place, data, {})


def _change(key: str, value: Any, caller: str) -> str:
    path, said = key.replace("__", "."), f"{caller}(…, {key}={short(repr(value), 80)})"
    if "=" in path or not all(path.split(".")):
        raise InputError(f"{said}: names no key of a scenario; two underscores lead into a mapping: attack__sigma=0.3")
    return f"{path}={_plain_text(value, said)}"


def _plain_text(value: Any, place: str) -> str:
    """``value`` as JSON, which is YAML too."""
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{place}: cannot be part of a scenario ({error}); give numbers, text, lists or dictionaries"
        ) from error


def _plain(value: Any) -> Any:
    """What people pass where plain data is meant: paths, ranges, sets, numbers and arrays of numpy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, range | set | frozenset):
        return sorted(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not plain data")
