"""Bytes and floating-point operations as records carry them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Amounts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bytes(_Amounts):
    """Bytes really encoded for the wire, headers included, summed over the clients of the round.

    ``values``: live values alone travel, and masks in which weights return. A mask that only shrinks is taken to be
    known to both sides, though nobody was told of it: a lower bound.
    ``bitmask``: one bit per prunable weight travels too, in every message.
    """

    uplink_values: int
    uplink_bitmask: int
    downlink_values: int
    downlink_bitmask: int


class Flops(_Amounts):
    """Floating-point operations (2 per multiply-add) of local training, forward and backward, summed over clients.

    All None when the model has operations whose cost is not known (``costs.compaction`` says which).

    ``sparse`` counts only live weights (needs sparse kernels to become time); ``compacted`` is the smaller dense model
    that is left when dead units are really removed; None when the model cannot be compacted.
    """

    dense: int | None
    sparse: int | None
    compacted: int | None
