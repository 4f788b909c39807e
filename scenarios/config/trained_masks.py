"""What goes with masks that clients train: refused before anything runs, or sound.

| with trained masks | why not |
|---|---|
| privacy | bits can be neither clipped nor noised, and per-sample gradients of scores are not computed |
| an exploration, guidance | they are about weights, and nobody trains any |
| a root set, channels | their updates and gradients would be of weights |
| measures of stability | they compare updates of weights |
| a local rule about weights | it would be handed scores |
| the global model tested, with masks of the clients' own | every output layer stays with its client |
"""

from __future__ import annotations

from autoflip_secure.interfaces import (
    ChannelSource,
    ClientPrivacy,
    LocalRule,
    TrainedMask,
    explores,
    trained_mask,
    trained_thresholds,
)
from autoflip_secure.scenarios.config.fields import Fields
from autoflip_secure.scenarios.config.messages import kind_of

_TRAINED_BY = {"scores": "fedmask", "thresholds": "spafl"}
"""What local rules are about beside weights, and a pruner that has clients train it."""
_ASKING = ("wants", "accumulates", "next_rows")
"""Methods by which clients are asked for more than their update."""

Obstacle = tuple[str, str, str]
"""The key that is in the way, the sentence about it, and the key that it does not go with."""


def obstacle(settings: Fields) -> Obstacle | None:
    """The first thing that does not go with trained masks; None: all is well."""
    pruner, rule = trained_mask(settings.algorithm.pruner), settings.algorithm.local_rule
    if pruner is None:
        if isinstance(rule, LocalRule) and rule.works_on in _TRAINED_BY:
            return "algorithm.local_rule", (
                f"{kind_of(type(rule))}: is about {rule.works_on} of masks that clients train, and the pruner "
                f"{kind_of(type(settings.algorithm.pruner))} trains none; use the pruner {_TRAINED_BY[rule.works_on]}, "
                "or another rule"
            ), "algorithm"  # fmt: skip
        return None
    return _private(settings, pruner) or _about_weights(settings, pruner) or _measured(settings, pruner)


def _private(settings: Fields, pruner: TrainedMask) -> Obstacle | None:
    privacy, kind = settings.privacy, kind_of(type(pruner))
    if not isinstance(privacy, ClientPrivacy):
        return None
    why = (
        "gradients of scores are not clipped sample by sample, so nothing would be proven"
        if privacy.works_on_samples
        else "models are the clients' own, and their accuracies would be stated without noise, which no ledger counts"
        if trained_thresholds(pruner) is not None
        else "what clients send are bits, which are neither clipped nor noised; their coin tosses are a randomised "
        "response whose epsilon adds up over all weights to nothing of use"
    )
    return "privacy.kind", (
        f"{kind_of(type(privacy))}: does not protect what the pruner {kind} does: {why}; set privacy: none, or another "
        "pruner"
    ), "algorithm"  # fmt: skip


def _about_weights(settings: Fields, pruner: TrainedMask) -> Obstacle | None:
    algorithm, kind = settings.algorithm, kind_of(type(pruner))
    aggregator, rule = algorithm.aggregator, algorithm.local_rule
    name = kind_of(type(aggregator))
    trained = "scores" if trained_thresholds(pruner) is None else "thresholds"
    if isinstance(rule, LocalRule) and rule.works_on not in (trained, "both"):
        return "algorithm.local_rule", (
            f"{kind_of(type(rule))}: is about {rule.works_on}, and with the pruner {kind} clients train {trained} of a "
            f"mask; use none, proximal or {'one_shot' if trained == 'scores' else 'sparse_units'}"
        ), "algorithm"  # fmt: skip
    if explores(pruner, aggregator, rule):
        return "algorithm.aggregator.kind", (
            f"{name}: has clients explore the weights first, and with the pruner {kind} nobody trains weights; use an "
            "aggregator without guidance, as mean or median"
        ), "algorithm"  # fmt: skip
    if aggregator.needs_clean_data:
        return "algorithm.aggregator.kind", (
            f"{name}: has the server train the weights on data of its own, and with the pruner {kind} nobody trains "
            "weights; use another aggregator, as median"
        ), "algorithm"  # fmt: skip
    sources: tuple[tuple[str, ChannelSource], ...] = (("pruner", pruner), ("aggregator", aggregator))
    for part, source in sources:
        if any(getattr(type(source), name) is not getattr(ChannelSource, name) for name in _ASKING):
            return f"algorithm.{part}.kind", (
                f"{kind_of(type(source))}: has clients send more than their update, which is measured on weights, and "
                f"with the pruner {kind} nobody trains weights; use another {part}"
            ), "algorithm"  # fmt: skip
    return None


def _measured(settings: Fields, pruner: TrainedMask) -> Obstacle | None:
    kind = kind_of(type(pruner))
    if settings.measures:
        return "measures", (
            f"{', '.join(settings.measures)}: compares updates of weights, and with the pruner {kind} clients send "
            f"{pruner.sends}; leave it out, or use another pruner"
        ), "algorithm"  # fmt: skip
    if pruner.own and settings.evaluation == "global":
        return "evaluation", (
            f"global: with the pruner {kind} every client keeps a part of its model to itself, so there is no global "
            "model to test; set evaluation: personal"
        ), "algorithm"  # fmt: skip
    return None
