"""What a federation over Flower cannot do, each with its reason and the way out."""

from __future__ import annotations

from autoflip_secure.defenses.aggregators.flower import FlowerStrategy
from autoflip_secure.federation.cell import Protocol
from autoflip_secure.interfaces import Attack, DataAttack, InputAttack, RowAttack, SampleAttack, trained_mask
from autoflip_secure.interfaces.base import called
from autoflip_secure.scenarios.config.messages import kind_of


def obstacle(protocol: Protocol) -> str | None:
    """Why ``protocol`` cannot run over Flower, in a sentence that begins with the key in the way; None: it can."""
    pruner, aggregator, learner = protocol.pruner, protocol.aggregator, trained_mask(protocol.pruner)
    named, combined = f"algorithm.pruner = {kind_of(type(pruner))!r}", repr(called(aggregator))
    found = {
        f"privacy = {called(protocol.privacy)!r}: what the ledger proves is about cohorts and noise that stay secret "
        "in one process, and nothing is proven of this transport; use the mods and wrappers of Flower with its own "
        "accounting, or set privacy: none": protocol.mechanism is not None,
        "secure_sum: its parties are processes of this package, which Flower does not connect; set secure_sum: none, "
        "and run secure sums with autoflip-secure party": protocol.secure_sum is not None,
        f"{named}: clients send {'' if learner is None else learner.sends} in place of an update, which have no "
        "message here; use a pruner whose mask the server makes": learner is not None,
        f"{named}: clients have masks of their own, which they would have to remember from round to round, and a node "
        "of Flower may be another machine the next time; use a pruner whose mask the server makes": (
            pruner.several_masks
        ),
        f"{named}: one client trains alone before round 1, stage by stage, which no round of Flower is; use another "
        "pruner": pruner.begins_alone,
        "exploration.upload_bits or upload_share: Flower's messages carry deviations whole, in single precision; leave "
        "both out": protocol.explores and protocol.exploration.shortens,
        f"algorithm.aggregator = {combined}: the server owns clean samples, and a server of Flower has no data; use "
        "another aggregator": aggregator.needs_clean_data,
        f"algorithm.aggregator = {combined}: is a strategy of Flower itself; give it to Flower's own ServerApp": (
            isinstance(aggregator, FlowerStrategy)
        ),
        "evaluation = 'personal': tests each client's own model on rows that it holds out; set evaluation: global": (
            protocol.evaluation == "personal"
        ),
    }
    found |= {
        f"algorithm: {kind_of(type(source))} has clients remember {', '.join(source.rows_kept)} from round to round, "
        "and a node of Flower may be another machine the next time; use one that keeps nothing there": (
            bool(source.rows_kept)
        )
        for source in (pruner, aggregator)
    }
    found |= {
        f"attack = {kind_of(type(attack))!r}: acts on more than one client has, or remembers; over Flower malicious "
        "clients act alone: use one that knows its own rows and has no memory, or attack: none": (
            not acts_alone(attack)
        )
        for attack in protocol.attack.parts
    }
    return next((sentence for sentence, applies in found.items() if applies), None)


def acts_alone(attack: Attack) -> bool:
    """Whether a malicious client can carry it out with what it has, in one round, as it does in the engine."""
    card = attack.threat_card
    if isinstance(attack, InputAttack) or card.knowledge != "own" or card.memory:
        return False
    return isinstance(attack, DataAttack | SampleAttack) or (isinstance(attack, RowAttack) and attack.declared)
