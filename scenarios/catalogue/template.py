"""A scenario file to begin with: every key with its value, bounds and a line of help, from the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from autoflip_secure.scenarios.catalogue.entries import FAMILIES, Catalogue
from autoflip_secure.scenarios.catalogue.option_types import description, in_words, models_in
from autoflip_secure.scenarios.config.documents import parse_value
from autoflip_secure.scenarios.config.yaml_text import write_flow
from autoflip_secure.terminal.wrapping import COLUMNS, wrapped

_ORDER = (
    "name",
    "question",
    "compare",
    "seeds",
    "outcome",
    "data",
    "partition",
    "model",
    "algorithm",
    "attack",
    "privacy",
)
_LAST = "sweep"
EXAMPLE = """\
# sweep:
#   product:                       # every combination; zip: {…} goes in step
#     algorithm: [fedavg, autoflip]
#     attack: [none, {kind: gaussian_noise, sigma: 0.5, scope: 0.2}]"""
_LISTED = {path[0]: family for family, path in FAMILIES.items()} | {"algorithm": "algorithms"}


def template(catalogue: Catalogue, written: dict[str, Any], about: str, sweep: str = EXAMPLE) -> str:
    """YAML text that loads to what ``written`` with ``sweep`` loads to.

    Args:
        catalogue: what a scenario file may say.
        written: keys that are not their defaults, its name among them; a preset's.
        about: what it is, for the comment at its top.
        sweep: the lines of the key ``sweep``; see :func:`section`.
    """
    properties, defs = catalogue.schema["properties"], catalogue.schema["$defs"]
    keys = sorted(properties, key=lambda key: (key == _LAST, _ORDER.index(key) if key in _ORDER else len(_ORDER)))
    parts = [list(wrapped(about, COLUMNS, "# "))]
    for key in keys:
        node, value = properties[key], written.get(key, _default(properties[key]))
        if key == _LAST:
            lines = [*_comment(description(node)), sweep]
        elif key in _LISTED:
            lines = list(_choice(key, node, value, catalogue))
        elif key == "secure_sum":
            lines = list(_secure_sum(node, value, defs))
        else:
            lines = list(_key(key, node, value, defs, ""))
        parts.append(lines)
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def section(text: str, key: str) -> str:
    """The lines of a key at the top of a YAML text, comments among them too; none where it is not there.

    >>> section("a: 1\\nsweep:  # axes\\n  - b: 2\\n\\nc: 3\\n", "sweep")
    'sweep:  # axes\\n  - b: 2'
    """
    found = re.search(rf"^{key}:.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[0].rstrip() if found else ""


def _choice(key: str, node: dict[str, Any], value: Any, catalogue: Catalogue) -> Iterator[str]:
    """A component: what there is to choose from, the short form, and as a comment the same with every option."""
    family, defs = _LISTED[key], catalogue.schema["$defs"]
    kinds = ", ".join(catalogue.families[family])
    yield from _comment(f"{node['description']}: {kinds} (`autoflip-secure list {family}`)")
    whole = {"name" if key == "algorithm" else "kind": value} if isinstance(value, str) else dict(value)
    if key == "algorithm":
        known = catalogue.algorithms.get(whole.get("name", ""), {"details": {}})["details"]
        whole = {**{part: parse_value(text) for part, text in known.items()}, **whole}
    model = _model(node, whole, defs)
    yield from _source(model)
    yield f"{key}: {write_flow(value)}"
    if model["properties"].keys() - {"kind"}:
        yield from _whole(key, model, whole, defs)


def _secure_sum(node: dict[str, Any], value: Any, defs: dict[str, Any]) -> Iterator[str]:
    model = _model(node, value or {}, defs)
    yield from _comment(f"{node['description']} (`autoflip-secure list secure_sum`)")
    yield from _source(model)
    yield f"secure_sum: {'none' if value is None else write_flow(value)}"
    yield from _whole("secure_sum", model, value or {}, defs)


def _whole(key: str, model: dict[str, Any], value: dict[str, Any], defs: dict[str, Any]) -> Iterator[str]:
    """A mapping as a comment."""
    yield from ("# or, with every option:", f"# {key}:")
    yield from _mapping(model, value, defs, "#   ")


def _mapping(model: dict[str, Any], value: dict[str, Any], defs: dict[str, Any], margin: str) -> Iterator[str]:
    if "kind" in model["properties"]:
        yield f"{margin}kind: {model['properties']['kind']['const']}"
    for key, node in model["properties"].items():
        if key != "kind":
            yield from _key(key, node, value.get(key, _default(node)), defs, margin)


def _key(key: str, node: dict[str, Any], value: Any, defs: dict[str, Any], margin: str) -> Iterator[str]:
    about = description(node)
    if models_in(node) and isinstance(value, dict):
        model = _model(node, value, defs)
        yield from _comment(about or model.get("description", "").partition("\n")[0], margin)
        yield from _source(model, margin)
        yield f"{margin}{key}:"
        yield from _mapping(model, value, defs, margin + "  ")
        return
    bounds = in_words(node, defs)
    yield from _comment(about if bounds == "text" else f"{about} ({bounds})", margin)
    text = f"{margin}{key}: {write_flow(value)}"
    if len(text) > COLUMNS and isinstance(value, str) and value == " ".join(value.split()):
        yield f"{margin}{key}: >-"
        yield from wrapped(value, COLUMNS, margin + "  ")
    else:
        yield text


def _source(model: dict[str, Any], margin: str = "") -> list[str]:
    return _comment(f"source: {model['$comment']}", margin) if model.get("$comment") else []


def _model(node: dict[str, Any], value: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """The model of the property that ``value`` is a mapping of: the one of its kind, where there are several."""
    models: list[dict[str, Any]] = [defs[name] for name in models_in(node)]
    kinds = {one["properties"].get("kind", {}).get("const"): one for one in models}
    return kinds.get(value.get("kind"), models[0])


def _default(node: dict[str, Any]) -> Any:
    """Of a property, or of the form of it that has one (``seeds``)."""
    found = [one["default"] for one in (node, *node.get("anyOf", [])) if "default" in one]
    return found[0] if found else None


def _comment(text: str, margin: str = "") -> list[str]:
    return wrapped(" ".join(text.split()), COLUMNS, margin + "# ")
