"""Counts and lists in a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def count_of(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(items: Sequence[str], most: int = 6) -> str:
    """``a, b and c``; beyond ``most`` it says how many more.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], 3)
    ('a', 'a and b', 'a, b and c', 'a, b and 2 more')
    """
    items = items if len(items) <= most else [*items[: most - 1], f"{len(items) - most + 1} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def some(items: Sequence[str], most: int, between: str = ", ") -> str:
    """The first ones, and how many more there are.

    >>> some(["a", "b", "c"], 2), some(["a", "b", "c"], 3, "; ")
    ('a, b and 1 more', 'a; b; c')
    """
    return between.join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def first_lines(lines: Sequence[str], most: int, indent: str = "") -> str:
    """As many lines, and one that says how many more there are."""
    return "\n".join([*lines[:most], *([f"{indent}… and {len(lines) - most} more"] if len(lines) > most else [])])
