"""What rounds cost in which masks are trained: messages of bits and numbers, operations under the trained masks.

- **All hold everything.** Down: every probability and shared number, float32. Up: a bit a score, and shared numbers.
- **Own masks, the first round of a client.** Down: nothing, as weights and scores follow from the seed. Up: a bit for
  each score, whether it is held, and one for each that is.
- **Own masks, later.** Down: a bit for each score held, whether others hold it too, and the probabilities of those. Up:
  a bit for each score held.

Frozen tensors of the model go to each client once, with its first message. ``bitmask`` counts the client's own mask, a
bit a score, in every message up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.measures import add_counts
from autoflip_secure.federation.outcome import Outcome
from autoflip_secure.federation.own_costs import own_density
from autoflip_secure.federation.scored_rounds import Places, places
from autoflip_secure.interfaces import trained_mask
from autoflip_secure.models.amounts import Bytes, Flops
from autoflip_secure.models.bit_messages import bit_bytes
from autoflip_secure.models.costs import CostModel
from autoflip_secure.models.masks import facts


@dataclass(frozen=True)
class ScoredAmounts:
    """Of one round."""

    bytes: Bytes
    flops: Flops
    density: float  # live hidden weights / hidden weights; own masks: mean over participants


def scored_amounts(cell: Cell, costs: CostModel, outcome: Outcome, newcomers: Sequence[bool]) -> ScoredAmounts | None:
    """What a round costs where masks are trained; None: they are not.

    Args:
        newcomers: of the participants, who has received nothing before.
    """
    pruner, layout, epochs = trained_mask(cell.protocol.pruner), cell.problem.layout, cell.protocol.training.epochs
    if pruner is None or outcome.live is None:
        return None
    where = places(pruner, layout, torch.device("cpu"))
    frozen = 4 * int(layout.frozen.sum())
    if outcome.own is None:
        scores, shared = int(where.scored.sum()), int(where.shared.sum())
        up, down = bit_bytes(scores, shared), bit_bytes(0, scores + shared)
        count, live = len(outcome.participants), outcome.live
        sent = Bytes(
            uplink_values=count * up,
            uplink_bitmask=count * up,
            downlink_values=count * down + sum(newcomers) * frozen,
            downlink_bitmask=count * down + sum(newcomers) * frozen,
        )
        return ScoredAmounts(sent, costs.training(live, outcome.samples * epochs), facts(live, layout).density)
    assert outcome.known is not None
    samples = [len(cell.problem.clients[k]) for k in outcome.participants]
    known, own = outcome.known.cpu(), outcome.own
    total, flops = _own_bytes(own, where, known, [new * frozen for new in newcomers]), [_NOTHING]
    for first, mask, live, count in zip(own.before.cpu(), own.masks.cpu(), outcome.live.cpu(), samples, strict=True):
        fresh = int(not torch.equal(first, mask))  # epochs before the mask is its own
        flops += [costs.training(first, fresh * count), costs.training(live, (epochs - fresh) * count)]
    return ScoredAmounts(total, reduce(add_counts, flops), own_density(outcome.live, layout))


_NOTHING = Flops(dense=0, sparse=0, compacted=0)


def _own_bytes(own: Masking, where: Places, known: Bool[Tensor, " params"], first: Sequence[int]) -> Bytes:
    """Of participants with own masks; ``first``: bytes that some get with their first message."""
    total = Bytes(uplink_values=0, uplink_bitmask=0, downlink_values=0, downlink_bitmask=0)
    scores = int(where.scored.sum())
    for before, mask, more in zip(own.before.cpu(), own.masks.cpu(), first, strict=True):
        held, new = int((mask & where.scored).sum()), not torch.equal(before, mask)
        shared, numbers = int((mask & where.shared).sum()), int((mask & known & where.scored).sum())
        plain, told = bit_bytes(held, shared), bit_bytes(scores + held, shared)
        down = bit_bytes(0 if new else held, shared + (0 if new else numbers)) + more
        sent = Bytes(
            uplink_values=told if new else plain,
            uplink_bitmask=told,
            downlink_values=down,
            downlink_bitmask=down,
        )
        total = add_counts(total, sent)
    return total
