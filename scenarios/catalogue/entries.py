"""The catalogue: every kind of every family with its options, and the JSON schema of a scenario file.

Kinds, options and sources are read from the schema; algorithms, presets and what secure sums need are beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from autoflip_secure.errors import StoreError
from autoflip_secure.files.regular_files import parse_json, read_regular
from autoflip_secure.scenarios.catalogue.option_types import description, in_words, models_in
from autoflip_secure.scenarios.plugins.entry_points import offers

FILE = Path(__file__).with_name("catalogue.json")
FAMILIES = {  # family -> where a scenario names one of it
    "attacks": ("attack",), "aggregators": ("algorithm", "aggregator"), "pruners": ("algorithm", "pruner"),
    "local_rules": ("algorithm", "local_rule"), "pre_aggregators": ("algorithm", "aggregator", "before"),
    "datasets": ("data",), "partitions": ("partition",), "models": ("model",), "privacy": ("privacy",),
}  # fmt: skip
DAMAGED = "damaged plug-ins"
_DEPTH = 3  # of the written file: below that, a line each


@dataclass(frozen=True)
class Option:
    """One key of a component."""

    type: str  # in words, bounds included: "number, above 0"
    default: Any  # as plain data
    required: bool = False  # it has to be given
    description: str = ""

    @property
    def value(self) -> str:
        """The default as text."""
        return "required" if self.required else json.dumps(self.default, ensure_ascii=False)


@dataclass(frozen=True)
class Entry:
    """One kind of a family, one algorithm, one preset."""

    summary: str  # one line
    source: str = ""  # paper, section or equation
    options: dict[str, Option] = field(default_factory=dict)  # in the order of the class; nested ones as outer.inner
    details: dict[str, str] = field(default_factory=dict)  # what else there is to say: heading -> text


@dataclass(frozen=True)
class Catalogue:
    """What the classes say, as plain data.

    ``schema`` is that of a scenario file, in which the ``$comment`` of a component is its source; ``secure_sum`` is
    aggregator -> what it needs of the updates; ``capabilities`` is family -> kind -> heading -> what it needs;
    the others are name -> arguments of :class:`Entry`.
    """

    schema: dict[str, Any]
    algorithms: dict[str, dict[str, Any]]
    secure_sum: dict[str, str]
    presets: dict[str, dict[str, Any]]
    trackers: dict[str, dict[str, Any]]
    capabilities: dict[str, dict[str, dict[str, str]]]
    damaged: dict[str, dict[str, Any]]  # entry points of other distributions that cannot be used: why, and what to do

    @cached_property
    def families(self) -> dict[str, dict[str, Entry]]:
        """Family -> name -> entry."""
        defs, properties = self.schema["$defs"], self.schema["properties"]
        found: dict[str, dict[str, Entry]] = {}
        for family, path in FAMILIES.items():
            node = {"properties": properties}
            for key in path:
                inner = node["properties"][key]
                nodes = [defs[name] for name in models_in(inner.get("items", inner))]
                node = nodes[0]
            needs = self.capabilities.get(family, {})
            found[family] = {
                kind: replace(_entry(one, defs), details=needs.get(kind, {}))
                for one in nodes
                if (kind := one["properties"]["kind"]["const"])
            }
        found["algorithms"] = {name: Entry(**one) for name, one in self.algorithms.items()}
        [secure] = models_in(properties["secure_sum"])
        source = defs[secure]["$comment"]
        found["secure_sum"] = {
            **{name: Entry(one.description, source, {name: one})
               for name, one in _options(defs[secure], defs) if "." not in name},
            **{f"updates of {kind}": Entry(text, source) for kind, text in self.secure_sum.items()},
        }  # fmt: skip
        found["presets"] = {name: Entry(**one) for name, one in self.presets.items()}
        found["trackers"] = {name: Entry(**one) for name, one in self.trackers.items()}
        return {
            **found,
            **({DAMAGED: {name: Entry(**one) for name, one in self.damaged.items()}} if self.damaged else {}),
        }

    def text(self) -> str:
        """The file."""
        return _lines(asdict(self), _DEPTH) + "\n"

    @classmethod
    def now(cls) -> Catalogue:
        """With what other distributions offer; where there is nothing, the file that ships with the package.

        Raises:
            StoreError: it is missing or damaged.
        """
        found = offers()
        if not found.good and not found.damaged:
            return cls.read()
        from autoflip_secure.scenarios.catalogue.derive import derive  # imports what entry points name, and torch

        return derive()

    @classmethod
    def read(cls) -> Self:
        """The file that ships with the package.

        Raises:
            StoreError: it is missing or damaged.
        """
        try:
            return cls(**parse_json(read_regular(FILE)))
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{FILE}: missing or damaged ({error}); install the package again") from error


def _entry(node: dict[str, Any], defs: dict[str, Any]) -> Entry:
    summary = str(node.get("description", "")).partition("\n")[0]
    threat = {"threat card": node["x-threat"]} if "x-threat" in node else {}
    return Entry(summary, node.get("$comment", ""), dict(_options(node, defs)), threat)


def _options(node: dict[str, Any], defs: dict[str, Any], above: str = "") -> Iterator[tuple[str, Option]]:
    """Key -> option, those of inner mappings as ``outer.inner``."""
    for key, inner in node.get("properties", {}).items():
        if key == "kind":
            continue
        required = key in node.get("required", [])
        yield f"{above}{key}", Option(in_words(inner, defs), inner.get("default"), required, description(inner))
        for name in models_in(inner):
            yield from _options(defs[name], defs, f"{above}{key}.")


def _lines(data: Any, depth: int) -> str:
    """JSON, in which every value at ``depth`` has a line of its own."""
    if not depth or not isinstance(data, dict):
        return json.dumps(data, ensure_ascii=False)
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {_lines(one, depth - 1)}" for key, one in data.items()) + "\n}"
