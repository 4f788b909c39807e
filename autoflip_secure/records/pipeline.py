"""The steps of a round in their order, as every record says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

PIPELINE = (
    "draw the cohort",
    "local data attack (malicious clients)",
    "local training of live weights",
    "update attack (malicious clients)",
    "only live weights travel",
    "reject updates that are not finite",
    "score and aggregate",
    "evolve guidance",
    "prune",
    "evaluate",
)
"""The order in which a round is processed. Under privacy :func:`pipeline` says where its steps lie."""


def pipeline(
    *,
    sample_level: bool = False,
    noise: Literal["central", "distributed"] | None = None,
    secret: bool = False,
    guidance_sees_rows: bool = True,
    server_step: bool = False,
    local_rule: str = "",
    moving_masks: bool = False,
    own_masks: bool = False,
    personal: bool = False,
    channels: Sequence[str] = (),
    prepared: Sequence[str] = (),
    alone: bool = False,
    keeps_masked: bool = False,
    trained_mask: str = "",
    tuned: bool = False,
    exploring_every: int | None = None,
    guided_by_round: bool = False,
) -> list[str]:
    """The steps of a round, in order.

    Args:
        sample_level: honest clients train by DP-SGD.
        noise: who adds noise at client level; None: nobody.
        secret: updates pass through parties in shares.
        guidance_sees_rows: guidance learns from single clients' updates; else from the step.
        server_step: the server has a learning rate or momentum.
        local_rule: what changes local steps, by kind; "": nothing.
        moving_masks: it changes clients' masks too.
        own_masks: every client decides about a mask of its own.
        personal: the honest clients' own models are tested.
        channels: names of what clients send beside their updates, in some rounds at least.
        prepared: names of what all clients send once, before round 1.
        alone: before round 1 one client trains by itself.
        keeps_masked: the server remembers masked weights.
        trained_mask: what clients send who train a mask: ``bits`` of scores over frozen weights, or ``thresholds`` of
            units beside weights of their own; "": they train weights, and send them.
        tuned: after the last round every client trains its own live weights.
        exploring_every: rounds after which explorers explore again; None: never.
        guided_by_round: guidance is of those explorers who took part in the round before.
    """
    steps = list(PIPELINE)
    steps[2] = _TRAINED.get(trained_mask, steps[2])
    if local_rule:
        steps[2] += f" under the rule {local_rule}" + (", which moves masks" if moving_masks else "")
    if sample_level:
        steps[2] += " by DP-SGD (honest clients; malicious ones train plainly)"
    if noise == "distributed":
        steps.insert(5, "clip, and add a share of the noise (honest clients)")
    if noise == "central":
        steps.insert(5, "clip (the server, every update)")
        steps.insert(steps.index("score and aggregate") + 1, "add noise to the sum (the server)")
    if secret:
        steps[steps.index("score and aggregate")] = (
            "secure sum: shares to the parties, which reveal what the method needs"
        )
    if server_step:
        steps.insert(steps.index("prune"), "the step times the server's learning rate, with its momentum")
    if not guidance_sees_rows:
        step = "the step" if noise is None else "the noised step"
        steps[steps.index("evolve guidance")] = f"evolve guidance (from {step})"
    if own_masks:
        steps[steps.index("score and aggregate")] = "aggregate: each coordinate over the clients that hold it"
        steps.insert(2, "own masks (every participant, on its training rows)")
    _with_trained_mask(steps, trained_mask=trained_mask, tuned=tuned)
    if personal:
        steps[steps.index("evaluate")] = "evaluate (honest clients' own models, on their held-out rows)"
    if keeps_masked:
        steps[steps.index("prune")] = "prune (masked weights keep their value on the server)"
    if channels:
        steps = _with_channels(steps, ", ".join(channels))
    steps = _with_new_maps(steps, exploring_every, guided_by_round=guided_by_round)
    return [*_before(prepared, alone=alone), *steps]


_TRAINED = {
    "bits": "local training of the scores of a mask; weights are frozen",
    "thresholds": "local training of own weights, and of a threshold a unit",
}


def _with_trained_mask(steps: list[str], *, trained_mask: str, tuned: bool) -> None:
    """What travels, what the server does with it, and what clients do at the end."""
    if trained_mask == "thresholds":
        steps[steps.index("only live weights travel")] = "one threshold a unit travels"
        steps[steps.index("prune")] = "keep the thresholds; units below them are pruned by each client"
    elif trained_mask:
        steps[steps.index("only live weights travel")] = "one bit a score travels"
        steps[steps.index("prune")] = "keep probabilities within [0, 1], and make the model of them"
    if tuned:
        steps.insert(steps.index("evaluate"), "after the last round: clients train their live weights")


def _before(prepared: Sequence[str], *, alone: bool) -> list[str]:
    """What is done once, before round 1."""
    everybody = f"once, before round 1: all clients measure {', '.join(prepared)} and send it as an update"
    lone = "once, before round 1: one client trains alone, and its model and mask are everybody's"
    return [step for step, holds in ((everybody, prepared), (lone, alone)) if holds]


def _with_new_maps(steps: list[str], every: int | None, *, guided_by_round: bool) -> list[str]:
    """What is drawn anew before a round."""
    if guided_by_round:
        steps[steps.index("evolve guidance")] = "evolve parameter agreement"
        steps.insert(0, "draw guidance and mask anew, from what the last round's cohort explored")
    if every is not None:
        steps.insert(0, f"explore again (after every {every} rounds), and draw guidance and mask anew")
    return steps


def _with_channels(steps: list[str], names: str) -> list[str]:
    """Where the round's other channels are measured, and that they take the way of the updates from there."""
    place = next(number for number, step in enumerate(steps) if step.startswith("local training"))
    steps.insert(place + 1, f"measure {names} (in rounds that ask for it; from here on as with the update)")
    steps[steps.index("only live weights travel")] = f"only live weights and {names} travel"
    steps[steps.index("reject updates that are not finite")] = f"reject clients whose update or {names} is not finite"
    return steps
