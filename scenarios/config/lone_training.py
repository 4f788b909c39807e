"""What goes with a client that trains alone before round 1: refused before anything runs, or sound.

| with it | why not |
|---|---|
| privacy | its model and its mask are made without noise, and are sent |
| updates through the parties | the server would be sent one client's model, which no sum hides |
"""

from __future__ import annotations

from autoflip_secure.interfaces import ClientPrivacy, Pruner
from autoflip_secure.scenarios.config.fields import Fields
from autoflip_secure.scenarios.config.messages import kind_of

Obstacle = tuple[str, str, str]
"""The key that is in the way, the sentence about it, and the key that it does not go with."""


def obstacle(settings: Fields) -> Obstacle | None:
    """The first thing that does not go with it; None: all is well."""
    pruner = settings.algorithm.pruner
    if not pruner.begins_alone:
        return None
    what = (
        f"with the pruner {kind_of(type(pruner))} one client trains alone before round 1 and sends its model and mask"
    )
    if isinstance(settings.privacy, ClientPrivacy):
        return "privacy.kind", (
            f"{kind_of(type(settings.privacy))}: {what}, made without noise; {_way_out(pruner)}, or set privacy: none"
        ), "algorithm"  # fmt: skip
    if settings.secure_sum is not None and settings.secure_sum.updates:
        return "secure_sum.updates", (
            f"true: {what}, which no sum hides; {_way_out(pruner)}, or set secure_sum: none"
        ), "algorithm"  # fmt: skip
    return None


def not_audited(pruner: Pruner) -> str | None:
    """Why a cell with this pruner is not attacked by an audit; None: it can be."""
    if not pruner.begins_alone:
        return None
    return (
        f"its pruner {kind_of(type(pruner))} has one client train alone before round 1, whose model and mask the "
        f"attacks do not look at, so they underestimate what it reveals; {_way_out(pruner)}, or audit another algorithm"
    )


def _way_out(pruner: Pruner) -> str:
    own = "init" in type(pruner).model_fields
    return "set algorithm.pruner.init: none" if own else "use a pruner that begins otherwise"
