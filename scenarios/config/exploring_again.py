"""What does not go with maps that are drawn again in the course of training.

Explorers explore again (``exploration.every``), or guidance is of each round's participants (``guidance.matrix``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoflip_secure.interfaces import ClientPrivacy, LocalRule, Pruner, explores, guided
from autoflip_secure.scenarios.config.messages import kind_of
from autoflip_secure.scenarios.config.tables import PRUNERS

if TYPE_CHECKING:
    from autoflip_secure.scenarios.config.fields import Fields

Obstacle = tuple[str, str, str]  # key, sentence about its value, the other key


def obstacle(settings: Fields) -> Obstacle | None:
    """The first thing that is in the way; None: all is well, or the keys have no effect on the algorithm."""
    return _again(settings) or _of_rounds(settings)


def _again(settings: Fields) -> Obstacle | None:
    every, algorithm = settings.exploration.every, settings.algorithm
    rule = algorithm.local_rule
    if every is None or not explores(algorithm.pruner, algorithm.aggregator, rule):
        return None
    if isinstance(settings.privacy, ClientPrivacy):
        return "exploration.every", (
            f"{every}: releases the explorers' deviations again and again, and what is proven of "
            f"{kind_of(type(settings.privacy))} counts one exploration; leave it out, or set privacy: none"
        ), "privacy"  # fmt: skip
    if stays := _stays(algorithm.pruner):
        return "exploration.every", f"{every}: {stays}", "algorithm"
    if isinstance(rule, LocalRule) and rule.needs_exploration:
        return "exploration.every", (
            f"{every}: the local rule {kind_of(type(rule))} is sent what was explored before round 1, once; leave it "
            "out, or use another rule"
        ), "algorithm"  # fmt: skip
    return None


def _of_rounds(settings: Fields) -> Obstacle | None:
    matrix, algorithm = settings.guidance.matrix, settings.algorithm
    if matrix == "once" or not guided(algorithm.pruner, algorithm.aggregator):
        return None
    if isinstance(settings.privacy, ClientPrivacy):
        return "guidance.matrix", (
            f"{matrix}: the mask tells everybody who took part in a round, and privacy may rest on that being unknown; "
            "set matrix: once, or privacy: none"
        ), "privacy"  # fmt: skip
    if settings.secure_sum is not None:
        return "guidance.matrix", (
            f"{matrix}: needs what single explorers found, and secure_sum shows the server only sums; set matrix: "
            "once, or secure_sum: none"
        ), "secure_sum"  # fmt: skip
    if stays := _stays(algorithm.pruner):
        return "guidance.matrix", f"{matrix}: {stays}", "algorithm"
    return None


def _stays(pruner: Pruner) -> str:
    """Why a pruner does not go with a later map; "": it does."""
    if pruner.draws_again:
        return ""
    able = ", ".join(kind for kind, cls in PRUNERS.items() if getattr(cls, "draws_again", False))
    return (
        f"the pruner {kind_of(type(pruner))} makes nothing of a later exploration; leave it out, or use one that draws "
        f"its mask anew: {able}"
    )
