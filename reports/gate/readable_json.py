"""JSON that people read and git compares: what fits on a line stands on one, and columns of numbers are wrapped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 120  # columns


def readable(value: Any, indent: int = 0, room: int = WIDTH) -> str:
    """``value`` as JSON text; keys keep their order.

    Args:
        value: plain data.
        indent: columns before every line but the first.
        room: columns that are left on the first line.

    >>> print(readable({"seeds": [1, 2], "why": "first"}, room=20))
    {
     "seeds": [1, 2],
     "why": "first"
    }
    """
    whole = json.dumps(value, ensure_ascii=False)
    if len(whole) <= room or not value or not isinstance(value, Mapping | list | tuple):
        return whole
    opening, closing = "{}" if isinstance(value, Mapping) else "[]"
    margin = " " * (indent + 1)
    if isinstance(value, Mapping):
        keys = [f"{json.dumps(str(key), ensure_ascii=False)}: " for key in value]
        items = [
            key + readable(one, indent + 1, WIDTH - indent - 2 - len(key))
            for key, one in zip(keys, value.values(), strict=True)
        ]
        plain = not any(isinstance(one, Mapping | list | tuple) for one in value.values())
    else:
        items = [readable(one, indent + 1, WIDTH - indent - 2) for one in value]
        plain = not any(isinstance(one, Mapping | list | tuple) for one in value)
    numbers = plain and all(not isinstance(one, str) for one in _values(value))
    lines = _filled(items, WIDTH - indent - 2) if numbers or _uniform(value) else items
    return f"{opening}\n" + ",\n".join(margin + line for line in lines) + f"\n{' ' * indent}{closing}"


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else list(value)


def _uniform(value: Any) -> bool:
    """Short words that are all of one length, as digests are."""
    values = _values(value)
    return all(isinstance(one, str) for one in values) and len({len(one) for one in values}) == 1


def _filled(items: Sequence[str], width: int) -> list[str]:
    lines = [items[0]]
    for item in items[1:]:
        if len(lines[-1]) + 2 + len(item) <= width:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return lines
