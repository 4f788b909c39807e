"""What an algorithm of the table is: a pruner × an aggregator × a local rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Algorithm:
    """A pruner × an aggregator × a local rule, by kind and settings; the settings left out have their defaults."""

    pruner: dict[str, Any]
    aggregator: dict[str, Any]
    description: str
    local_rule: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})


def mix(
    pruner: str,
    aggregator: str,
    description: str,
    *,
    prune: dict[str, Any] | None = None,
    local: str = "none",
    rule: dict[str, Any] | None = None,
    **settings: Any,
) -> Algorithm:
    """One, by the kinds of its parts; ``prune``, ``settings`` and ``rule``: of the pruner, aggregator, local rule."""
    return Algorithm(
        {"kind": pruner, **(prune or {})},
        {"kind": aggregator, **settings},
        description,
        {"kind": local, **(rule or {})},
    )
