"""What masks of the clients' own cost and look like: bytes and operations client by client, shares as means over them.

Downlink: the live weights under the mask that the server knows. Uplink: the update under the new one, and the mask
itself in rounds in which it changed. ``bitmask`` counts the mask in every message. Initial weights are drawn from a
public seed, so who rewinds to them needs no message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean

import torch
from jaxtyping import Bool
from torch import Tensor

from autoflip_secure.federation.cell import Protocol
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.measures import add_counts, digest
from autoflip_secure.models.amounts import Bytes, Flops
from autoflip_secure.models.costs import CostModel, round_bytes
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import LayerUnits, Units


def own_bytes(own: Masking, layout: Layout, newcomers: Sequence[bool]) -> Bytes:
    """Of one round.

    Args:
        newcomers: of the cohort, who has received nothing before and gets frozen parameters too.
    """
    total = Bytes(uplink_values=0, uplink_bitmask=0, downlink_values=0, downlink_bitmask=0)
    for before, mask, new in zip(own.before, own.masks, newcomers, strict=True):
        down, up = round_bytes(before, layout, 1, int(new)), round_bytes(mask, layout, 1)
        changed = not torch.equal(before, mask)
        sent = Bytes(
            uplink_values=up.uplink_bitmask if changed else up.uplink_values,
            uplink_bitmask=up.uplink_bitmask,
            downlink_values=down.downlink_values,
            downlink_bitmask=down.downlink_bitmask,
        )
        total = add_counts(total, sent)
    return total


def own_flops(
    own: Masking,
    costs: CostModel,
    samples: Sequence[int],
    protocol: Protocol,
    passes: int,
    round_: int,
) -> Flops:
    """Of one round: local training under each mask, passes over the data after it, and forward passes that measure
    accuracies where the pruner needs them, before and after it."""
    parts, pruner = [Flops(dense=0, sparse=0, compacted=0)], protocol.pruner
    began = own.masks if own.began is None else own.began
    for before, first, mask, count in zip(own.before, began, own.masks, samples, strict=True):
        if own.began is None:
            parts.append(costs.training(mask, count * (protocol.training.epochs + passes)))
        else:
            parts += _training(costs, (first, mask), count, protocol, passes, round_)
        for measured, held in ((pruner.needs_accuracy, before), (pruner.needs_end_accuracy, first)):
            if measured:
                one = costs.forward(held)
                parts.append(Flops(**{name: None if n is None else n * count for name, n in one.model_dump().items()}))
    return reduce(add_counts, parts)


def _training(
    costs: CostModel, masks: tuple[Tensor, Tensor], samples: int, protocol: Protocol, passes: int, round_: int
) -> list[Flops]:
    """Of a client whose mask goes from the first to the second of ``masks``, by a local rule or once it has trained.

    Epochs before the first move are under the first mask, those after the last one, and ``passes`` more, under the
    second, and those in between under the one that costs more. The mini-batch before a move has dense gradients.
    """
    schedule, (first, last) = protocol.training, masks
    rule, moves = protocol.rule, list[int]()
    if rule is not None and rule.moves_masks and rule.moves_in(round_, protocol.rounds):
        moves = [epoch for epoch in range(1, schedule.epochs + 1) if rule.moves_after(epoch, schedule.epochs)]
    if not moves:
        return [costs.training(first, samples * schedule.epochs), costs.training(last, samples * passes)]
    dense, batch = torch.ones_like(first), (samples - 1) % schedule.batch_size + 1
    before, between = moves[0] * samples - batch, (moves[-1] - moves[0]) * samples - batch * (len(moves) - 1)
    dearer = max(masks, key=lambda mask: costs.training(mask, samples).sparse or 0)
    return [
        costs.training(first, before),
        costs.training(dearer, between),
        costs.training(dense, batch * len(moves)),
        costs.training(last, (schedule.epochs - moves[-1] + passes) * samples),
    ]


def own_density(masks: Bool[Tensor, "clients params"], layout: Layout) -> float:
    """Share of hidden weights that a client holds, mean over clients; 1 when there are none, or nobody."""
    hidden = masks[:, layout.prunable.to(masks.device)]
    return float(hidden.double().mean()) if hidden.numel() else 1.0


@dataclass(frozen=True)
class FinalMasks:
    """What clients hold at the end, mean over all of them."""

    live_weights: dict[str, int]  # of each weight tensor, rounded
    units: dict[str, LayerUnits]  # of each weight tensor whose units are known, rounded
    flops: Flops  # of one sample's forward pass
    compaction: str  # "ok", or why one of them has no compacted model
    digest: str  # of all masks, in the order of the clients

    @classmethod
    def of(
        cls, masks: Iterable[Bool[Tensor, " params"]], layout: Layout, units: Units | None, costs: CostModel
    ) -> FinalMasks:
        """Client by client, so that one mask is in memory at a time."""
        weights: dict[str, list[int]] = {segment.name: [] for segment in layout if segment.kind == "weight"}
        left: dict[str, list[LayerUnits]] = {}
        flops, reason, content = list[Flops](), "ok", hashlib.sha256()
        for mask in masks:
            for name, counts in weights.items():
                counts.append(int(mask[layout[name].slice].sum()))
            for name, own in ({} if units is None else units.of_weights(mask, layout)).items():
                left.setdefault(name, []).append(own)
            flops.append(costs.forward(mask))
            reason = costs.compaction_of(mask) if reason == "ok" else reason
            content.update(digest(mask).encode())
        live = {name: round(fmean(counts)) for name, counts in weights.items()}
        return cls(
            live, {n: _mean_units(own) for n, own in left.items()}, mean_flops(flops), reason, content.hexdigest()[:16]
        )


def _mean_units(found: Sequence[LayerUnits]) -> LayerUnits:
    """Of one weight tensor, over clients."""
    inputs = [one.live_inputs for one in found if one.live_inputs is not None]
    mean_inputs = round(fmean(inputs)) if inputs else None
    return LayerUnits(found[0].units, round(fmean(one.live for one in found)), mean_inputs)


def mean_flops(found: Iterable[Flops]) -> Flops:
    """Mean over clients, rounded; None where one of them has none."""
    rows = [one.model_dump() for one in found]
    means = {
        name: None if any(row[name] is None for row in rows) else round(fmean(row[name] for row in rows))
        for name in Flops.model_fields
    }
    return Flops(**means)
