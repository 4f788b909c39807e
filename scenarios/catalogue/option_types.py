"""A JSON schema's property in words: which values a key takes, in the terms of a scenario's author."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "integer": "whole number", "number": "number", "boolean": "true or false", "string": "text",
    "null": "null", "object": "mapping",
}  # fmt: skip
_MANY = {"whole number": "whole numbers", "number": "numbers", "text": "texts", "mapping": "mappings"}


def in_words(node: dict[str, Any], defs: dict[str, Any]) -> str:
    """Type and bounds of a property.

    Args:
        node: the property.
        defs: what its ``$ref`` lead to.

    >>> in_words({"type": "number", "minimum": 0, "exclusiveMaximum": 0.5}, {})
    'number, at least 0 and below 0.5'
    >>> in_words({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, {})
    'whole number, at least 1; or null'
    """
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[-1]]
        return f"mapping with {', '.join(target['properties'])}" if target.get("properties") else in_words(target, defs)
    if "enum" in node or "const" in node:
        return f"one of {', '.join(map(str, node['enum']))}" if "enum" in node else str(node["const"])
    if union := node.get("anyOf") or node.get("oneOf"):
        return "; or ".join(dict.fromkeys(in_words(one, defs) for one in union))
    return _array(node, defs) if node.get("type") == "array" else _plain(node)


def models_in(node: dict[str, Any]) -> list[str]:
    """Names of the models that a property's value may be a mapping of."""
    if "$ref" in node:
        return [node["$ref"].rsplit("/", 1)[-1]]
    return [name for union in ("anyOf", "oneOf") for one in node.get(union, []) for name in models_in(one)]


def description(node: dict[str, Any]) -> str:
    """Of a property, or of one of the forms that its value may have."""
    return str(next(filter(None, (one.get("description") for one in (node, *node.get("anyOf", [])))), ""))


def _plain(node: dict[str, Any]) -> str:
    name, bounds = _NAMES.get(str(node.get("type")), "any value"), _bounds(node)
    return f"{name}, {bounds}" if bounds else name


def _array(node: dict[str, Any], defs: dict[str, Any]) -> str:
    """A list, or a tuple of one type.

    >>> _array({"items": {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}, "minItems": 2}, {})
    'list of 2 or more whole numbers, each 1 to 8'
    """
    items = node.get("items") or (node.get("prefixItems") or [{}])[0]
    least = f"{node['minItems']} or more " if node.get("minItems") else ""
    named = [name for one in items.get("anyOf", ()) for name in one.get("examples", ())]
    if named:  # of a family of plug-ins
        return f"list of {least or 'any '}of {', '.join(named)}, or mappings with their options"
    if "enum" in items:
        return f"list of {least or 'any '}of {', '.join(map(str, items['enum']))}"
    name, _, bounds = in_words(items, defs).partition(", ")
    if name in _MANY:
        return f"list of {least}{_MANY[name]}{f', each {bounds}' if bounds else ''}"
    return f"list of {least}{in_words(items, defs).replace('mapping', 'mappings', 1)}"


_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _bounds(node: dict[str, Any]) -> str:
    limits = {key: node[key] for key in _LIMITS if key in node}
    if node.get("type") == "integer":  # of whole numbers every bound is one that is reached
        for exclusive, inclusive, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
            if exclusive in limits:
                limits[inclusive] = limits.pop(exclusive) + step
    if limits.keys() == {"minimum", "maximum"}:
        return f"{_number(limits['minimum'])} to {_number(limits['maximum'])}"
    return " and ".join(f"{words} {_number(limits[key])}" for key, words in _LIMITS.items() if key in limits)


def _number(value: float) -> str:
    """As people write it.

    >>> _number(100_000), _number(0.001), _number(1e12), _number(2**63 - 1)
    ('100000', '0.001', '1e+12', '2^63 - 1')
    """
    if value == 2**63 - 1:
        return "2^63 - 1"
    return str(value) if isinstance(value, int) else f"{value:.12g}" if value < 1e9 else f"{value:g}"
