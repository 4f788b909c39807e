r"""YAML as people mean it: plain data, read as what it says, and refused where versions of YAML disagree.

What is written plainly (without quotes or a tag) is

| text | is |
|---|---|
| ``12``, ``1_000``, ``0x1f``, ``0o17``, ``0b101`` | a whole number |
| ``0.5``, ``.5``, ``1e-3``, ``.inf``, ``.nan`` | a number (YAML 1.1 wants ``1.0e-3``, and would make ``1e-3`` text) |
| ``true``, ``false``; ``null``, ``~`` and nothing | these |
| ``010`` (octal?), ``1:30`` (base 60?), ``yes``, ``no``, ``on``, ``off`` (true, false?) | refused, with a way out |
| all else, dates too | text |

The same table decides what needs quotes in a file that is written, so that what was text comes back as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from autoflip_secure.terminal.visible import short

_CORE = "tag:yaml.org,2002:"
TEXT, MAPPING, SEQUENCE, MERGE = (f"{_CORE}{name}" for name in ("str", "map", "seq", "merge"))
INT, FLOAT, BOOL, NULL = (f"{_CORE}{name}" for name in ("int", "float", "bool", "null"))
_ZEROS, _BASE_60, _WORD = "!leading-zeros", "!base-60", "!yes-or-no"  # ours: never constructed
_DEEPEST_FLOW = 100  # brackets in brackets
_DIGITS = r"[0-9](?:_?[0-9])*"
_PLAIN: tuple[tuple[str, str, Sequence[str]], ...] = (
    (_ZEROS, r"[-+]?0[0-9_]+", "-+0"),
    (_BASE_60, rf"[-+]?{_DIGITS}(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", "-+0123456789"),
    (_WORD, "|".join(f"{w}|{w.title()}|{w.upper()}" for w in ("yes", "no", "on", "off")), "yYnNoO"),
    (INT, r"[-+]?(?:0|[1-9](?:_?[0-9])*|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+)", "-+0123456789"),
    (FLOAT, rf"[-+]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    (FLOAT, r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    (BOOL, "true|True|TRUE|false|False|FALSE", "tTfF"),
    (NULL, "~|null|Null|NULL|", ["~", "n", "N", ""]),
    (MERGE, "<<", "<"),
)


class Loader(yaml.SafeLoader):
    """Reads plain text by the table above."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as in PyYAML

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Ends what is nested beyond all sense before the scanner looks far ahead for every bracket."""
        if self.flow_level > _DEEPEST_FLOW:
            raise RecursionError
        super().fetch_flow_collection_start(token)


class _Dumper(yaml.SafeDumper):
    """Writes what :class:`Loader` reads back."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in _PLAIN:
    for _class in (Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def write_yaml(data: Any) -> str:
    """Plain data as YAML text."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def write_flow(data: Any) -> str:
    """Plain data on one line.

    >>> write_flow({"kind": "agreement", "statistics": ["size"]})
    '{kind: agreement, statistics: [size]}'
    """
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**9)
    return str(text).removesuffix("...\n").strip()


def complaint(node: yaml.Node) -> str | None:
    """What is wrong with a node by itself: a tag that is not understood, or a value that may mean two things.

    >>> complaint(Loader("010").get_single_node())
    "`010` has a leading zero, so some versions of YAML read it as octal; write 10, or '010' in quotes for text"
    """
    if not isinstance(node, yaml.ScalarNode):
        usual = MAPPING if isinstance(node, yaml.MappingNode) else SEQUENCE
        return None if node.tag == usual else _no_tag(node.tag)
    if node.tag == TEXT:
        return None
    if node.tag in (INT, FLOAT, BOOL, NULL):
        return _misfit(node)
    return _ambiguous(node.tag, node.value) if node.tag in (_ZEROS, _BASE_60, _WORD) else _no_tag(node.tag)


def _misfit(node: yaml.ScalarNode) -> str | None:
    """``!!int abc``."""
    plain = _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False))
    if plain == node.tag or (plain, node.tag) == (INT, FLOAT):
        return None
    name = node.tag.removeprefix(_CORE)
    return f"`!!{name} {short(node.value, 40)}`: that is not a valid {name}; fix the value, or leave the tag out"


def _ambiguous(tag: str, text: str) -> str:
    sign, digits = ("-" if text.startswith("-") else ""), text.lstrip("+-").replace("_", "")
    if tag == _ZEROS:
        what, write = (
            "has a leading zero, so some versions of YAML read it as octal",
            sign + (digits.lstrip("0") or "0"),
        )
    elif tag == _BASE_60:
        total = 0.0
        for part in digits.split(":"):
            total = 60 * total + float(part)
        write = f"{sign}{total:.15g}"
        what = f"is {write} in some versions of YAML (base 60) and text in others"
    else:
        write = "true" if text.lower() in ("yes", "on") else "false"
        what = f"is {write} in some versions of YAML and text in others"
    shown = short(text, 40)
    return f"`{shown}` {what}; write {short(write, 40)}, or '{shown}' in quotes for text"


def _no_tag(tag: str) -> str:
    shown = short(tag.replace(_CORE, "!!"), 40)
    return f"the tag `{shown}` is not understood in a scenario; leave it out"


_RESOLVER: Any = Loader("")
