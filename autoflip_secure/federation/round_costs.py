"""What the participants of one round sent, received and computed, and how dense what they trained was."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from autoflip_secure.federation.channels import accumulated
from autoflip_secure.federation.measures import add_counts
from autoflip_secure.federation.outcome import Outcome
from autoflip_secure.federation.own_costs import own_bytes, own_density, own_flops
from autoflip_secure.federation.scored_costs import scored_amounts
from autoflip_secure.federation.told_masks import ToldMasks
from autoflip_secure.models.amounts import Bytes, Flops
from autoflip_secure.models.costs import CostModel, round_bytes
from autoflip_secure.models.masks import facts

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Cell


@dataclass(frozen=True)
class RoundCosts:
    """Of the update and the model alone: channels, broadcasts and shares come on top."""

    bytes: Bytes
    flops: Flops
    density: float

    @classmethod
    def of(
        cls, cell: Cell, outcome: Outcome, costs: CostModel, told: ToldMasks, newcomers: Collection[int]
    ) -> RoundCosts:
        """``told``: who knows which mask, brought up to date; ``newcomers``: who gets frozen parameters too."""
        layout, protocol, own = cell.problem.layout, cell.protocol, outcome.own
        scored = scored_amounts(cell, costs, outcome, [k in newcomers for k in outcome.participants])
        if scored is not None:
            return cls(scored.bytes, scored.flops, scored.density)
        passes = outcome.gradient_passes
        if own is None:
            sent = round_bytes(outcome.mask, layout, len(outcome.participants), len(newcomers))
            flops = costs.training(outcome.mask, outcome.samples * (protocol.training.epochs + passes))
            if more := told.bytes(outcome.mask, outcome.participants):
                sent = sent.model_copy(update={"downlink_values": sent.downlink_values + more})
            density = facts(outcome.mask, layout).density
        else:
            sent = own_bytes(own, layout, [k in newcomers for k in outcome.participants])
            samples = [len(cell.problem.clients[k]) for k in outcome.participants]
            flops = own_flops(own, costs, samples, protocol, passes, outcome.round)
            if protocol.pruner.collects and len(own.before):  # the mask that all share, before they move it
                more = told.bytes(own.before[0], outcome.participants)
                sent = sent.model_copy(update={"downlink_values": sent.downlink_values + more})
                for client, mask in zip(outcome.participants, own.masks, strict=True):
                    told.knows(client, mask)
            density = own_density(own.masks, layout)
        if passes and protocol.pruner.dense_gradients:
            flops = add_counts(flops, dense_gradients(costs, outcome.mask, outcome.samples * passes))
        if accumulated(cell, outcome.round):
            more_flops = dense_gradients(costs, outcome.mask, outcome.samples * protocol.training.epochs)
            flops = add_counts(flops, more_flops)
        return cls(sent, flops, density)


def dense_gradients(costs: CostModel, mask: Bool[Tensor, " params"], samples: int) -> Flops:
    """What training on so many samples takes more where gradients of pruned weights are wanted too.

    A gradient of weights takes as many operations as the forward pass; what the mask would save of it is not saved.
    """
    whole, live = costs.forward(torch.ones_like(mask)).model_dump(), costs.forward(mask).model_dump()
    saved = {name: None if None in (whole[name], live[name]) else whole[name] - live[name] for name in whole}
    return Flops(**{name: None if count is None else samples * count for name, count in saved.items()})
