"""What a client that trains alone before round 1 costs."""

from __future__ import annotations

from functools import reduce

from autoflip_secure.federation.lone_training import LoneTraining
from autoflip_secure.federation.measures import add_counts
from autoflip_secure.federation.round_costs import dense_gradients
from autoflip_secure.models.amounts import Flops
from autoflip_secure.models.costs import CostModel, exploration_bytes, round_bytes
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import facts
from autoflip_secure.records.lone_training import LoneTrainingRecord


def lone_training_record(found: LoneTraining, layout: Layout, costs: CostModel) -> LoneTrainingRecord:
    """The dense model down, its live weights and its mask up; every stage under its own mask."""
    down, up = exploration_bytes(layout, 1), round_bytes(found.mask, layout, 1).uplink_bitmask
    parts = [Flops(dense=0, sparse=0, compacted=0)]
    for work in found.work:
        parts.append(costs.training(work.mask, work.trained))
        if work.dense:
            parts.append(dense_gradients(costs, work.mask, work.trained))
        one = costs.forward(work.mask).model_dump()
        parts.append(Flops(**{name: None if count is None else count * work.measured for name, count in one.items()}))
    return LoneTrainingRecord(
        client=found.client,
        malicious=found.malicious,
        rejected=found.rejected,
        samples=found.samples,
        passes=found.passes,
        changes=found.changes,
        density=facts(found.mask, layout).density,
        bytes=down.model_copy(update={"uplink_values": up, "uplink_bitmask": up}),
        flops=reduce(add_counts, parts),
    )
