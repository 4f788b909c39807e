"""What does not go with explorers that explore again in the course of training (``exploration.every``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoflip_secure.interfaces import ClientPrivacy, LocalRule, explores
from autoflip_secure.scenarios.config.messages import kind_of
from autoflip_secure.scenarios.config.tables import PRUNERS

if TYPE_CHECKING:
    from autoflip_secure.scenarios.config.fields import Fields

Obstacle = tuple[str, str, str]  # key, sentence about its value, the other key


def obstacle(settings: Fields) -> Obstacle | None:
    """The first thing that is in the way; None: all is well, or nobody explores and the key has no effect."""
    every, algorithm = settings.exploration.every, settings.algorithm
    pruner, rule = algorithm.pruner, algorithm.local_rule
    if every is None or not explores(pruner, algorithm.aggregator, rule):
        return None
    if isinstance(settings.privacy, ClientPrivacy):
        return "exploration.every", (
            f"{every}: releases the explorers' deviations again and again, and what is proven of "
            f"{kind_of(type(settings.privacy))} counts one exploration; leave it out, or set privacy: none"
        ), "privacy"  # fmt: skip
    if not pruner.draws_again:
        able = ", ".join(kind for kind, cls in PRUNERS.items() if getattr(cls, "draws_again", False))
        return "exploration.every", (
            f"{every}: the pruner {kind_of(type(pruner))} makes nothing of a later exploration; leave it out, or use "
            f"one that draws its mask anew: {able}"
        ), "algorithm"  # fmt: skip
    if isinstance(rule, LocalRule) and rule.needs_exploration:
        return "exploration.every", (
            f"{every}: the local rule {kind_of(type(rule))} is sent what was explored before round 1, once; leave it "
            "out, or use another rule"
        ), "algorithm"  # fmt: skip
    return None
