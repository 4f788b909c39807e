"""Who sees what of what clients send: derived once from the protocol, and asked by everything that depends on it.

Pipeline text, what the record says the server saw, observers of the ledger, what audits attack, which values of a
scenario go together, and what guidance may learn from all follow from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces.trained_mask import trained_mask
from autoflip_secure.records.pipeline import pipeline
from autoflip_secure.records.privacy import Observer

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Protocol
    from autoflip_secure.interfaces import Aggregator

Sight = Literal["rows", "numbers", "sums", "step", "shares", "nothing"]
"""What is seen of a round's rows: every one; a weighted sum and a few numbers about each; a weighted sum; what is made
of them and published; shares that one party cannot tell from noise; nothing."""

Noise = Literal["none", "samples", "central", "distributed"]
"""Who adds noise: nobody; honest clients while they train; the server, to the sum; every client, a share to its row."""

EXPLORED: dict[Sight, str] = {
    "rows": "every one of them",
    "numbers": "sums of them, and a few numbers about each",
    "sums": "their sum",
}
UPDATES: dict[Sight, str] = {
    "rows": "every one of them",
    "numbers": "a weighted sum, and a few numbers about each",
    "sums": "their weighted sum",
}
"""What the server sees, in the words of the record."""


@dataclass(frozen=True)
class Visibility:
    """Who sees what in a run. Public are the global models, and cohorts where no guarantee rests on them."""

    server: Sight  # of updates
    explored: Sight  # by the server, of the explorers' deviations
    guidance: Literal["rows", "step"]  # what guidance learns from
    noise: Noise

    def __post_init__(self) -> None:
        assert self.guidance == "step" or self.server == "rows", "guidance would see what the server does not"

    @classmethod
    def of(cls, protocol: Protocol) -> Visibility:
        """What the values of a protocol come to.

        Masks are made of guidance and published. So guidance learns from single rows only where the server sees them,
        and where no proof is about a sum that is noised as a whole, or by all clients together: there masks may be
        made of nothing but what is proven, the step.

        Raises:
            InputError: updates are to pass through parties, and the aggregator needs every one of them.
        """
        parties, mechanism = protocol.secure_sum, protocol.mechanism
        noise: Noise = "none"
        if mechanism is not None and protocol.client_level is None:
            noise = "samples"
        elif mechanism is not None:
            noise = "central" if mechanism.trusted_server else "distributed"
        explored: Sight = "nothing"
        if protocol.explores:
            revealed: Sight = "sums" if protocol.exploration.reveal == "sum" else "numbers"
            explored = "rows" if parties is None else revealed
        server: Sight = "rows"
        if parties is not None and parties.updates:
            server = least(protocol.aggregator)
            if server == "rows":
                raise InputError(f"secure_sum.updates = true: {protocol.aggregator.hindrance()}")
        summed = noise == "central" or (noise == "distributed" and protocol.aggregator.one_sum)
        return cls(server, explored, "rows" if server == "rows" and not summed else "step", noise)

    @property
    def secret(self) -> bool:
        """Whether the server does not see updates, because they pass through parties."""
        return self.server != "rows"

    @property
    def noised_rows(self) -> bool:
        """Whether what leaves a client has noise in it."""
        return self.noise in ("samples", "distributed")

    def updates(self, observer: Observer | Literal["party"]) -> Sight:
        """What an observer sees of the updates of others."""
        if observer == "server":
            return self.server
        if observer == "party":
            return "shares" if self.secret else "nothing"
        return "step"

    def server_sees(self, channels: Sequence[str] = ()) -> list[str]:
        """What the server sees, in sentences; for runs with parties. ``channels``: what is sent beside the updates."""
        explored = [] if self.explored == "nothing" else [f"deviations of the explorers: {EXPLORED[self.explored]}"]
        sent = [f"{', '.join(channels)}: {UPDATES['sums' if self.secret else 'rows']}"] if channels else []
        return [*explored, f"updates: {UPDATES[self.server]}", *sent]


def pipeline_of(protocol: Protocol, channels: Sequence[str] = (), prepared: Sequence[str] = ()) -> list[str]:
    """The steps of a round of ``protocol``, in order.

    Args:
        protocol: of the run.
        channels: what clients send beside their updates.
        prepared: what all of them send before training.
    """
    seen = protocol.visibility
    on_updates: dict[Noise, Literal["central", "distributed"]] = {"central": "central", "distributed": "distributed"}
    return pipeline(
        sample_level=seen.noise == "samples",
        noise=on_updates.get(seen.noise),
        secret=seen.secret,
        guidance_sees_rows=seen.guidance == "rows",
        server_step=protocol.server_lr != 1 or protocol.server_momentum > 0,
        local_rule=getattr(protocol.rule, "kind", ""),
        moving_masks=protocol.rule is not None and protocol.rule.moves_masks,
        own_masks=protocol.pruner.several_masks,
        personal=protocol.evaluation == "personal",
        channels=channels,
        prepared=prepared,
        alone=protocol.pruner.begins_alone,
        keeps_masked=protocol.pruner.keeps_masked,
        trained_mask="" if (learner := trained_mask(protocol.pruner)) is None else learner.sends,
        tuned=learner is not None and learner.own and learner.tuning[0] > 0,
        exploring_every=protocol.exploration.every if protocol.explores else None,
        guided_by_round=protocol.guided_by_round,
    )


def post_processing_of(protocol: Protocol, *, channels: bool) -> list[str]:
    """What a run makes of releases, at no further cost; ``channels``: clients send something beside their updates."""
    made = {
        "guidance and masks": protocol.guided,
        "masks": (channels or protocol.pruner.keeps_masked) and not protocol.guided,
        "what the local rule makes of the landscape": protocol.rule is not None and protocol.rule.needs_exploration,
        "agreement scores": protocol.aggregator.scores_clients,
        "steps times the server's learning rate": protocol.server_lr != 1,
        "the server's momentum": protocol.server_momentum > 0,
        "the global models and their accuracy": True,
    }
    return [what for what, holds in made.items() if holds]


def least(aggregator: Aggregator) -> Sight:
    """The least that a server has to see of updates for this aggregator."""
    if aggregator.hindrance() is not None:
        return "rows"
    return "sums" if aggregator.linear else "numbers"
