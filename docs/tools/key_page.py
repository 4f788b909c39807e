"""docs/reference/scenario.md: every key of a scenario file, from the schema that the program checks them with."""

from __future__ import annotations

from typing import Any

from layout import escaped, table, value, with_links

from autoflip_secure.scenarios.catalogue.entries import FAMILIES, Catalogue
from autoflip_secure.scenarios.catalogue.option_types import description, in_words, models_in

_COMPONENTS = {path[0]: family for family, path in FAMILIES.items() if len(path) == 1} | {"algorithm": "algorithms"}
_GRID = ("sweep", "suite", "tune")
_INTRODUCTION = """\
# Keys of a scenario

A scenario is a YAML file; every key but `sweep` has a default, and `autoflip-secure init my.yaml` writes a file with
all of them. `--set KEY=VALUE` changes one on the command line, with dots into mappings: `--set training.lr=0.2`.
`autoflip-secure schema` prints the JSON schema that editors complete and check with. An unknown key, a value of another
type or out of its bounds, and combinations that are not defined are refused with file, line and way out.
"""


_PARTS = [
    "An algorithm is a [pruner](pruners.md), an [aggregator](aggregators.md), [pre-aggregators](pre_aggregators.md)",
    "before it, and a [local rule](local_rules.md). [Secure sums](secure_sum.md) have a page of their own, and so have",
    "[trackers](trackers.md), which the command line names, and [presets](presets.md), whole scenarios to start from.",
]


def scenario() -> str:
    """The page."""
    catalogue = Catalogue.read()
    properties, defs = catalogue.schema["properties"], catalogue.schema["$defs"]
    plain = {k: n for k, n in properties.items() if k not in _COMPONENTS and not models_in(n)}
    mappings = {k: n for k, n in properties.items() if k not in _COMPONENTS and models_in(n)}
    lines = [_INTRODUCTION, "## Components", "", "A name, or a mapping with `kind` and options.", ""]
    lines += table(
        ["key", "default", "what it is", "what there is"],
        [(f"`{key}`", value(properties[key].get("default")), description(properties[key]),
          f"[{_COMPONENTS[key]}]({_COMPONENTS[key]}.md)") for key in properties if key in _COMPONENTS],
    )  # fmt: skip
    lines += ["", *_PARTS, "", "## Plain keys", "", *_keys(plain, defs)]
    for key in sorted(mappings, key=lambda key: (key in _GRID, key)):
        node = mappings[key]
        [name] = models_in(node)
        model = defs[name]
        lines += ["", f"## `{key}`", ""]
        about = description(node) or str(model.get("description", "")).partition("\n")[0]
        lines += [f"{escaped(about[:1].upper() + about[1:]).rstrip('.')}.", ""]
        if source := model.get("$comment"):
            lines += [f"Source: {with_links(escaped(source))}.", ""]
        lines += _keys(model["properties"], defs, required=model.get("required", []))
    return "\n".join(lines)


def _keys(nodes: dict[str, Any], defs: dict[str, Any], required: list[str] | None = None) -> list[str]:
    rows = []
    for key, node in nodes.items():
        default = "required" if key in (required or []) else value(_default(node))
        rows.append((f"`{key}`", in_words(node, defs), default, with_links(escaped(description(node)))))
    return table(["key", "value", "default", "what it is"], rows)


def _default(node: dict[str, Any]) -> Any:
    return next((one["default"] for one in (node, *node.get("anyOf", [])) if "default" in one), None)
