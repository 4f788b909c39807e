"""Values and keys of a YAML document that are refused as they are written, each with a sentence."""

from __future__ import annotations

import math
import re

import yaml

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.key_paths import KeyPath, named
from autoflip_secure.scenarios.config.yaml_text import FLOAT, INT, TEXT, complaint
from autoflip_secure.terminal.visible import hidden, short

_NUMBERED = ("pairs",)  # mappings whose keys may be whole numbers
_LARGEST = 2**63 - 1


def wrong_value(node: yaml.Node) -> str | None:
    """What a message says behind the key, of a value that cannot be used as it is written."""
    if (said := complaint(node)) is not None:
        return f": {said}"
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.tag == TEXT and (found := hidden(node.value)) is not None:
        return f" = {short(repr(node.value), 80)}: has the control character U+{ord(found):04X}; take it out"
    if node.tag == INT:
        return _uncountable(node.value.lower().replace("_", ""))
    return _endless(node.value) if node.tag == FLOAT else None


def _endless(text: str) -> str | None:
    """A number that is infinite, none at all, or would silently count as infinite or as zero."""
    digits, shown = text.lower().replace("_", ""), short(text, 40)
    number = float(digits.replace(".inf", "inf").replace(".nan", "nan"))
    if digits.lstrip("+-") in (".inf", ".nan"):
        return f" = {number}: should be a finite number"
    if not math.isfinite(number):
        return f" = {shown}: is beyond 1.8e308, the largest number; give a smaller one"
    if number == 0 and re.search("[1-9]", digits.partition("e")[0]):
        return f" = {shown}: is so small that it would count as 0; write 0, or a larger number"
    return None


def _uncountable(digits: str) -> str | None:
    """Whole numbers beyond 64 bits are refused: nothing can count with them."""
    plain = digits.lstrip("+-")
    long = len(plain) > 300
    number = 0 if long else int(plain, {"0x": 16, "0o": 8, "0b": 2}.get(plain[:2], 10))
    if not long and number <= _LARGEST:
        return None
    shown = "a number of more than 300 digits" if long else f"{'-' if digits.startswith('-') else ''}{number:.3g}"
    return f" = {shown}: whole numbers go up to 2^63 - 1; give a smaller one"


def checked_key(key: yaml.Node, path: KeyPath, place: str) -> str | int:
    """A key is text; below ``pairs`` it may be a whole number."""
    if not isinstance(key, yaml.ScalarNode):
        what = "a mapping" if isinstance(key, yaml.MappingNode) else "a list"
        raise InputError(f"{place}: {what} is where a key should be; keys must be text: write `key: value`")
    if key.tag == TEXT:
        if (found := next((c for c in key.value if not c.isprintable()), None)) is not None:
            raise InputError(
                f"{place}: key '{short(key.value)}': has the invisible character U+{ord(found):04X}; take it out"
            )
        return str(key.value)
    plain = re.fullmatch(r"0|[1-9]\d{0,17}", key.value)
    if key.tag == INT and plain and str(path[-1] if path else "").split(".")[-1] in _NUMBERED:
        return int(key.value)
    inside = f" in {named(path)}" if path else ""
    shown = short(key.value, 40)
    raise InputError(f"{place}: key `{shown}`{inside}: keys must be text; write '{shown}' in quotes, or fix the line")
