"""What the record says of an exploration: who took part and how, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from autoflip_secure.federation.measures import uplink
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import Exploration
from autoflip_secure.interfaces.phases import exploration_after
from autoflip_secure.models.costs import CostModel, exploration_bytes, round_bytes
from autoflip_secure.models.exploration_messages import deviation_bytes
from autoflip_secure.records.run import ExplorationRecord
from autoflip_secure.secure_rows.secure_sum import SecureTransfer

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Cell


def exploration_record(
    cell: Cell,
    costs: CostModel,
    exploration: Exploration,
    transfer: SecureTransfer | None,
    before: ServerState | None = None,
    told: int = 0,
) -> ExplorationRecord:
    """Of the exploration before round 1, or of one from the state ``before``, whose live weights alone travel down.

    ``told``: bytes that tell explorers its mask.
    """
    explorers, layout = exploration.clients.tolist(), cell.problem.layout
    epochs = [*(len(losses) for losses in exploration.losses), *exploration.rejected_epochs]
    samples = sum(
        len(cell.problem.clients[k]) * n for k, n in zip([*explorers, *exploration.rejected], epochs, strict=True)
    )
    count = len(explorers) + len(exploration.rejected)
    whole, config = exploration_bytes(layout, count), cell.protocol.exploration
    if config.shortens:
        up = deviation_bytes(layout, count, config.upload_bits, config.upload_share)
        whole = whole.model_copy(update={"uplink_values": up, "uplink_bitmask": up})
    sent = uplink(whole, transfer)
    if before is not None:
        down = round_bytes(before.mask, layout, count)
        sent = sent.model_copy(
            update={"downlink_values": down.downlink_values + told, "downlink_bitmask": down.downlink_bitmask}
        )
    phase = 0 if before is None else exploration_after(before.round)
    return ExplorationRecord(
        explorers=explorers,
        malicious=cell.malicious_in(phase)[exploration.clients.cpu()].tolist(),
        agreement=exploration.agreement.tolist(),
        kept=exploration.kept.tolist(),
        losses=[list(row) for row in exploration.losses],
        bytes=sent,
        flops=costs.training(torch.ones_like(cell.problem.initial, dtype=torch.bool), samples).dense,
    )
