"""Where a value stands in a scenario: a path of keys, and how people write it."""

from __future__ import annotations

from collections.abc import Sequence

from autoflip_secure.terminal.visible import short

KeyPath = tuple[str | int, ...]


def dotted(path: Sequence[str | int]) -> str:
    """``("sweep", "product", 0)`` as people write it.

    >>> dotted(("attack", "clients", 0))
    'attack.clients.0'
    """
    return ".".join(map(str, path))


def named(path: Sequence[str | int]) -> str:
    """A key path in a message: on one line, and not endless."""
    return short(dotted(path))
