"""What goes with masks of the clients' own, and with tests on their own rows: refused before anything runs, or sound.

| with own masks | why not |
|---|---|
| an aggregator that compares whole rows | what a client does not hold is no zero that it sent |
| server_momentum | what nobody holds in a round keeps its value, and momentum would move it |
| secure sums | a coordinate that one client alone holds is that client's value, and its sum reveals it |
| privacy | masks are decided on data without noise, and are sent |
"""

from __future__ import annotations

from autoflip_secure.interfaces import Attack, ClientPrivacy, Pruner, trained_mask
from autoflip_secure.scenarios.config import lone_training
from autoflip_secure.scenarios.config.fields import Fields
from autoflip_secure.scenarios.config.messages import kind_of
from autoflip_secure.scenarios.config.tables import AGGREGATORS

Obstacle = tuple[str, str, str]
"""The key that is in the way, the sentence about it, and the key that it does not go with."""


def obstacle(settings: Fields) -> Obstacle | None:
    """The first thing that does not go with own masks or personal evaluation; None: all is well."""
    return _in_the_way_of_masks(settings) or _in_the_way_of_tests(settings)


def _in_the_way_of_masks(settings: Fields) -> Obstacle | None:
    algorithm = settings.algorithm
    if not algorithm.pruner.several_masks:
        return None
    kind = kind_of(type(algorithm.pruner))
    if not algorithm.aggregator.own_masks:
        able = " or ".join(name for name, cls in AGGREGATORS.items() if getattr(cls, "own_masks", False))
        return "algorithm.aggregator.kind", (
            f"{kind_of(type(algorithm.aggregator))}: works with whole rows, and with the pruner {kind} every client "
            f"holds other coordinates: what one does not hold is no zero that it sent; use {able}, or another pruner"
        ), "algorithm"  # fmt: skip
    if isinstance(settings.privacy, ClientPrivacy):
        why = (
            "masks are decided on training data without noise, and are sent"
            if settings.privacy.unit == "sample"
            else "nothing is proven about the masks that clients send beside their updates"
        )
        return "privacy.kind", (
            f"{kind_of(type(settings.privacy))}: does not protect what the pruner {kind} does: {why}; set privacy: "
            "none, or another pruner"
        ), "algorithm"  # fmt: skip
    if settings.server_momentum > 0:
        return "server_momentum", (
            f"{settings.server_momentum:g}: moves on what was averaged before, and with the pruner {kind} what nobody "
            "holds in a round keeps its value; set server_momentum: 0, or another pruner"
        ), "algorithm"  # fmt: skip
    if settings.secure_sum is not None and settings.secure_sum.updates:
        return "secure_sum.updates", (
            f"true: with the pruner {kind} every client holds other coordinates, and the sum of one that a single "
            "client holds is that client's value; set secure_sum: none, or another pruner"
        ), "algorithm"  # fmt: skip
    return None


def _in_the_way_of_tests(settings: Fields) -> Obstacle | None:
    if settings.evaluation == "global":
        if settings.held_out != type(settings).model_fields["held_out"].default:
            return (
                "held_out",
                f"{settings.held_out:g}: counts with evaluation: personal only; leave it out",
                "evaluation",
            )
        return None
    if isinstance(settings.privacy, ClientPrivacy):
        return "evaluation", (
            "personal: states accuracies on clients' own rows without noise, which no ledger counts; set evaluation: "
            "global, or privacy: none"
        ), "privacy"  # fmt: skip
    if any(_nobody_honest(attack, settings.clients) for attack in settings.attack.parts):
        return "evaluation", (
            f"personal: is about honest clients, and all {settings.clients} are malicious; leave some honest, or set "
            "evaluation: global"
        ), "attack"  # fmt: skip
    return None


def _nobody_honest(attack: Attack, clients: int) -> bool:
    malicious = round(attack.scope * clients) if attack.clients is None else len(set(attack.clients))
    return malicious >= clients


def not_audited(pruner: Pruner) -> str | None:
    """Why a cell with this pruner is not attacked by an audit; None: it can be."""
    if pruner.prepares:
        return (
            f"its pruner {kind_of(type(pruner))} has all clients send what they measure before training, which the "
            "attacks do not look at: they would underestimate what it reveals; audit another algorithm"
        )
    if (learner := trained_mask(pruner)) is not None:
        return (
            f"its pruner {kind_of(type(pruner))} has clients train masks and send {learner.sends}, and the attacks "
            "look for updates of weights; audit another algorithm"
        )
    if not pruner.several_masks:
        return lone_training.not_audited(pruner)
    return (
        f"its pruner {kind_of(type(pruner))} gives every client a mask of its own, which the attacks do not know: "
        "they would underestimate what it reveals; audit another algorithm"
    )
