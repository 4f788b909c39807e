"""What the record says of round 0 of pruners that prepare."""

from __future__ import annotations

import torch

from autoflip_secure.federation.channel_costs import uplink_beside
from autoflip_secure.federation.preparing import Preparation
from autoflip_secure.models.costs import CostModel, exploration_bytes
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.run import PreparationRecord


def preparation_record(found: Preparation, layout: Layout, costs: CostModel, newcomers: int) -> PreparationRecord:
    """Its messages and operations; ``newcomers``: who gets the initial weights, dense, for it."""
    everything = torch.ones(layout.size, dtype=torch.bool)
    up, down = uplink_beside(found), exploration_bytes(layout, newcomers)
    total = sum(up.values())
    return PreparationRecord(
        participants=found.participants,
        malicious=found.malicious,
        rejected=found.rejected,
        channels=up,
        bytes=down.model_copy(update={"uplink_values": total, "uplink_bitmask": total}),
        flops=costs.training(everything, found.samples * found.passes),
    )
