"""Configurations as plain data: parts of them, their leaves, and where two of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

NOT_THERE = "(not there)"


def without(config: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """All of ``config`` but these keys."""
    return {key: value for key, value in config.items() if key not in keys}


def without_paths(config: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """All of ``config`` but what lies at these paths; one that is not there takes nothing away.

    >>> without_paths({"training": {"lr": 0.1, "epochs": 5}, "rounds": 9}, ["training.lr", "model.hidden"])
    {'training': {'epochs': 5}, 'rounds': 9}
    """
    found = dict(config)
    for path in paths:
        *parents, key = path.split(".")
        here: Any = found
        for parent in parents:
            if not isinstance(here.get(parent), Mapping):
                break
            here[parent] = here = dict(here[parent])
        else:
            here.pop(key, None)
    return found


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Path -> scalar for every leaf of a nested configuration; a list is one leaf, written as text.

    >>> leaves({"attack": {"kind": "none"}, "hidden": [64, 10]})
    {'attack.kind': 'none', 'hidden': '[64, 10]'}
    """
    if isinstance(config, Mapping):
        found: dict[str, Any] = {}
        for key, value in config.items():
            found |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: json.dumps(config, default=str) if isinstance(config, list | tuple) else config}


def differences(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Where two configurations differ, as (path, old, new); what one of them lacks is :data:`NOT_THERE`.

    >>> differences({"rounds": 60, "seeds": [1]}, {"rounds": 40, "seeds": [1], "clients": 9})
    [('clients', '(not there)', 9), ('rounds', 60, 40)]
    """
    before, after = leaves(old), leaves(new)
    pairs = ((path, before.get(path, NOT_THERE), after.get(path, NOT_THERE)) for path in sorted({*before, *after}))
    return [(path, one, other) for path, one, other in pairs if one != other]


def varying(configs: Iterable[Any]) -> list[str]:
    """Paths whose leaf is not the same in all ``configs``, in the order in which they appear."""
    flat = [leaves(config) for config in configs]
    paths = dict.fromkeys(path for one in flat for path in one)
    return [path for path in paths if len({repr(one.get(path)) for one in flat}) > 1]
