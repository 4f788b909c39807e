"""Keys that scenarios got after cells had their names, each with the default under which nothing changes.

A configuration has such a key only where it is not at its default, so that the cells, and the draws that belong to
them, stay what they were. Who compares configurations asks :func:`with_newer` for all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

NEWER: dict[str, Any] = {
    "server_lr": 1.0,
    "server_momentum": 0.0,
    "algorithm.local_rule": {"kind": "none"},
    "algorithm.aggregator.weighting": "samples",
    "algorithm.aggregator.before": [],
    "algorithm.aggregator.neighbours": "n-f-1",
    "algorithm.aggregator.unit": "median",
    "algorithm.local_rule.every": 1,
    "algorithm.local_rule.until": 1.0,
    "algorithm.local_rule.matrix": "once",
    "algorithm.pruner.target_density": None,
    "evaluation": "global",
    "held_out": 0.2,
    "measures": [],
    "exploration.every": None,
    "exploration.upload_bits": 32,
    "exploration.upload_share": 1.0,
    "guidance.matrix": "once",
    "attack.window.period": None,
    "attack.window.acting": 1,
    "training.lr_decay": 1.0,
    "training.augment": None,
    "training.precision": "float32",
    "data.owners": None,
    "data.image_size": None,
    "data.npz": None,
    "data.alphabet": None,
    "model.width": 32,
    "model.hidden": 512,
    "model.channels_last": False,
}
"""Path of keys -> default, as plain data."""
_OF_KIND = {
    "algorithm.aggregator.weighting": ("mean",),
    "algorithm.aggregator.neighbours": ("krum", "multi_krum"),
    "algorithm.aggregator.unit": ("centered_clipping",),
    "data.image_size": ("mnist", "fashion_mnist", "cifar10", "cifar100"),
    "data.npz": ("cifar10", "cifar100"),
    "data.alphabet": ("leaf",),
    "model.width": ("mcmahan_cnn",),
    "model.hidden": ("mcmahan_cnn",),
    "model.channels_last": ("cnn", "mcmahan_cnn", "cnn6"),
    "algorithm.local_rule.every": ("regrow",),
    "algorithm.local_rule.until": ("regrow",),
    "algorithm.local_rule.matrix": ("fedlex",),
    "algorithm.pruner.target_density": ("prunefl",),
}
"""Options of some kinds alone: what another plug-in calls so has been in its configuration from the start."""


def without_newer(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` without the newer keys that have their default."""

    def drop(here: dict[str, Any], key: str, default: Any) -> None:
        if key in here and here[key] == default:
            del here[key]

    return _changed(config, drop)


def with_newer(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with all newer keys that are no plug-in's option; of these only some kinds have each.

    >>> with_newer(without_newer({"rounds": 60})) == with_newer({"rounds": 60})
    True
    """

    def fill(here: dict[str, Any], key: str, default: Any) -> None:
        if "kind" not in here:
            here.setdefault(key, default)

    return _changed(config, fill)


def _changed(config: Mapping[str, Any], change: Callable[[dict[str, Any], str, Any], None]) -> dict[str, Any]:
    """A copy in which ``change(mapping, key, default)`` was done wherever a newer key has, or would have, its place."""
    found = dict(config)
    for path, default in NEWER.items():
        *parents, key = path.split(".")
        here: Any = found
        for parent in parents:
            if not isinstance(here.get(parent), Mapping):
                break
            here[parent] = here = dict(here[parent])
        else:
            if path not in _OF_KIND or here.get("kind") in _OF_KIND[path]:
                change(here, key, default)
    return found
