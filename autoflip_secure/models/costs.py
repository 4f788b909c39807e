"""What a run costs, measured on what is actually sent and computed.

Bytes are the length of messages that were really encoded (and can be decoded). A message is

    header (14 bytes: magic, version, flags, coordinates, values)  |  bits  |  live values, float32, little endian

where *bits* tell the live from the masked coordinates: none when both sides know the mask, else one per prunable
weight, and one per other coordinate only if some of those are masked (a dead unit takes its bias and columns along).
Frozen parameters travel once to each client, in the first message that it gets, and are in no other.
FLOPs are counted on real passes, 2 per multiply-add, by :mod:`autoflip_secure.models.flops`.
"""

from __future__ import annotations

import copy
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.models.amounts import Bytes, Flops
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.flops import Operations, count_pass
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import PerMask
from autoflip_secure.models.units import Units

_HEADER = struct.Struct("<4sBBII")  # magic, version, flags, coordinates, values
_MAGIC, _VERSION = b"AFLP", 1
_PRUNABLE_BITS, _OTHER_BITS, _FROZEN = 1, 2, 4  # flags
T = TypeVar("T")


# ---------------------------------------------------------------------------------------------- bytes


def encode(
    vector: Float[Tensor, " params"],
    mask: Bool[Tensor, " params"],
    layout: Layout,
    *,
    bitmask: bool,
    first: bool = False,
) -> bytes:
    """The message that carries the live coordinates of ``vector`` (weights, an update), and the mask if ``bitmask``.

    Bit patterns are kept, NaN payloads included. ``first``: the receiver has nothing yet, so frozen parameters go too.
    """
    live = (mask.cpu() & layout.sent) | (layout.frozen & first)
    values = vector.detach().cpu()[live].numpy().astype("<f4", copy=False)
    flags, bits = _FROZEN if first and bool(layout.frozen.any()) else 0, b""
    if bitmask:
        others = layout.sent & ~layout.prunable
        flags |= _PRUNABLE_BITS | (0 if bool(live[others].all()) else _OTHER_BITS)
        bits = np.packbits(live[_covered(layout, flags)].numpy()).tobytes()
    return _HEADER.pack(_MAGIC, _VERSION, flags, layout.size, len(values)) + bits + values.tobytes()


def decode(
    payload: bytes, layout: Layout, mask: Bool[Tensor, " params"] | None = None
) -> tuple[Float[Tensor, " params"], Bool[Tensor, " params"]]:
    """Inverse of :func:`encode`: the vector, zero where masked or not in the message, and the mask.

    Args:
        payload: a whole message.
        layout: of the model that the message is about.
        mask: known to the receiver; needed exactly when the message carries no bitmask.

    Raises:
        InputError: the message is truncated or too long, of another kind, version or model, or contradicts the mask.
    """
    if len(payload) < _HEADER.size:
        raise InputError(f"message has {len(payload)} bytes, its header alone has {_HEADER.size}; it is truncated")
    magic, version, flags, coordinates, count = _HEADER.unpack_from(payload)
    known = flags & ~_FROZEN in (0, _PRUNABLE_BITS, _PRUNABLE_BITS | _OTHER_BITS)
    if magic != _MAGIC or version != _VERSION or not known:
        raise InputError(
            f"message starts with {magic!r}, version {version}, flags {flags}; expected {_MAGIC!r}, version "
            f"{_VERSION}, flags 0, 1 or 3 (and 4 with frozen parameters): it was not written by this library, or by "
            "another version of it"
        )
    if coordinates != layout.size:
        raise InputError(
            f"message has {coordinates} coordinates, the model {layout.size}; use the model that it was made for"
        )
    bare = flags & ~_FROZEN == 0
    if (mask is None) == bare:
        wanted = "carries no bitmask: give the mask" if bare else "carries its bitmask: give no other mask"
        raise InputError(f"message {wanted}")
    covered = _covered(layout, flags)
    packed = (len(covered) + 7) // 8
    expected = _HEADER.size + packed + 4 * count
    if len(payload) != expected:
        raise InputError(f"message has {len(payload)} bytes, its header promises {expected}; it is damaged")
    if mask is None:
        live = torch.ones(layout.size, dtype=torch.bool)
        bits = np.frombuffer(payload, np.uint8, packed, _HEADER.size)
        live[covered] = torch.from_numpy(np.unpackbits(bits, count=len(covered)).astype(bool))
    else:
        live = mask.cpu()
    here = (live & layout.sent) | (layout.frozen & bool(flags & _FROZEN))
    if int(here.sum()) != count:
        raise InputError(
            f"message has {count} values for {int(here.sum())} live coordinates; the sender used another mask"
        )
    vector = torch.zeros(layout.size)
    values = np.frombuffer(payload, "<i4", count, _HEADER.size + packed).astype(np.int32)
    vector.view(torch.int32)[here] = torch.from_numpy(values)  # as bits: torch writes a lone value through a double
    return vector, live


def _covered(layout: Layout, flags: int) -> Tensor:
    """Coordinates, in order, whose mask the bits of a message tell."""
    others = layout.sent & ~layout.prunable
    parts = [layout.prunable] * bool(flags & _PRUNABLE_BITS) + [others] * bool(flags & _OTHER_BITS)
    return torch.cat([torch.zeros(0, dtype=torch.long), *(part.nonzero().flatten() for part in parts)])


def _by_content(compute: Callable[[Tensor, Layout], T]) -> PerMask[T]:
    """Remembers what was computed for a mask by the tensor itself, and for good by its content."""
    known: dict[tuple[bytes, Layout], T] = {}

    def remembered(mask: Tensor, layout: Layout) -> T:
        content = hashlib.sha1(np.packbits(mask.cpu().numpy()).tobytes(), usedforsecurity=False).digest()
        if (content, layout) not in known:
            known[content, layout] = compute(mask, layout)
        return known[content, layout]

    return PerMask(remembered)


def _message_sizes(mask: Tensor, layout: Layout) -> tuple[int, int]:
    """Without and with the mask in it; a first message has :func:`_frozen_bytes` more."""
    weights = torch.zeros(layout.size)
    return len(encode(weights, mask, layout, bitmask=False)), len(encode(weights, mask, layout, bitmask=True))


def _frozen_bytes(layout: Layout) -> int:
    return 4 * int(layout.frozen.sum())


_sizes = _by_content(_message_sizes)


def round_bytes(mask: Bool[Tensor, " params"], layout: Layout, clients: int, newcomers: int = 0) -> Bytes:
    """One round: each participant receives the live weights and sends its update of them.

    Args:
        newcomers: those among them that have received nothing before: they get the frozen parameters too.
    """
    values, bits = (clients * size for size in _sizes(mask, layout))
    more = newcomers * _frozen_bytes(layout) if newcomers else 0
    return Bytes(uplink_values=values, uplink_bitmask=bits, downlink_values=values + more, downlink_bitmask=bits + more)


def exploration_bytes(layout: Layout, explorers: int) -> Bytes:
    """Phase 1: each explorer receives w_0 and sends its signed deviation, both dense; no mask exists yet."""
    everything = torch.ones(layout.size, dtype=torch.bool)
    up, down = (
        explorers * len(encode(torch.zeros(layout.size), everything, layout, bitmask=False, first=first))
        for first in (False, True)
    )
    return Bytes(uplink_values=up, uplink_bitmask=up, downlink_values=down, downlink_bitmask=down)


def broadcast_bytes(layout: Layout, clients: int, bits: int = 32) -> Bytes:
    """What a local rule sends to each of ``clients``: a number of so many bits (2: -1, 0 or 1; 32) for every trained
    parameter, whatever is pruned."""
    whole = encode(torch.zeros(layout.size), layout.trained, layout, bitmask=False)
    numbers = int(layout.trained.sum())
    down = clients * (len(whole) - 4 * numbers + -(-bits * numbers // 8))
    return Bytes(uplink_values=0, uplink_bitmask=0, downlink_values=down, downlink_bitmask=down)


# ---------------------------------------------------------------------------------------------- FLOPs


@dataclass(frozen=True)
class _Costs:
    """What one mask costs, per batch."""

    sparse_forward: float
    sparse_training: float
    compacted: tuple[int, int] | None  # forward, training
    reason: str  # "ok", or why there is no compacted model, or no number at all


class CostModel:
    """FLOPs of the dense, the sparse and the compacted model, counted once per mask and remembered.

    Dense and compacted are counted on real passes over a batch. Sparse is the dense count with the part of each weight
    tensor scaled by the share of it that lives; frozen weights live until their unit is dead. A model with operations
    whose cost is not known has no numbers, and a reason.

    Args:
        module: left as it is.
        layout: of ``module``.
        units: of ``module``; None when they are unknown, then nothing is compacted.
        reason: why ``units`` is None.
        sample: a batch of inputs; its first row is used.
        batch_size: samples per training step; at least 2 are run, since normalisation cannot train on one.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: Layout,
        units: Units | None,
        reason: str,
        sample: Num[Tensor, "batch ..."],
        batch_size: int,
    ) -> None:
        self._module = copy.deepcopy(module).cpu()
        self._layout, self._units, self._reason = layout, units, reason
        self._batch = min(max(2, batch_size), 16)  # counts are proportional to it; memory is too
        self._inputs = sample[:1].cpu().repeat(self._batch, *[1] * (sample.dim() - 1))
        self._forward, self._training = self._count(copy.deepcopy(self._module))
        self._problem = self._forward.problem or self._training.problem
        passes = self._forward, self._training
        # in a chain a weight is read by one layer without groups, whose operations are so many for each of its numbers
        self._in_proportion = units is not None and not units.branches and all(found.of_one_weight for found in passes)
        self._by_units: dict[bytes, tuple[tuple[int, int] | None, str]] = {}
        self._by_shapes: dict[tuple[torch.Size, ...], tuple[int, int]] = {}
        self._costs = _by_content(self._measure)
        #: "ok", or why there is no number for a compacted model; for one mask see :meth:`compaction_of`
        self.compaction = self.compaction_of(torch.ones(layout.size, dtype=torch.bool))

    def forward(self, mask: Bool[Tensor, " params"]) -> Flops:
        """FLOPs of one sample's forward pass."""
        costs = self._costs(mask, self._layout)
        return self._flops(1, self._forward.total, costs.sparse_forward, costs.compacted and costs.compacted[0])

    def training(self, mask: Bool[Tensor, " params"], samples: int) -> Flops:
        """FLOPs of the forward and backward passes over ``samples`` samples (one count per sample and epoch)."""
        costs = self._costs(mask, self._layout)
        return self._flops(samples, self._training.total, costs.sparse_training, costs.compacted and costs.compacted[1])

    def compaction_of(self, mask: Bool[Tensor, " params"]) -> str:
        """ "ok", or why there is no number for a model compacted under ``mask`` (say, because it cuts the network)."""
        return self._costs(mask, self._layout).reason

    def _flops(self, samples: int, dense: float, sparse: float, compacted: float | None) -> Flops:
        if self._problem is not None:
            return Flops(dense=None, sparse=None, compacted=None)
        share = samples / self._batch
        return Flops(
            dense=round(dense * share),
            sparse=round(sparse * share),
            compacted=None if compacted is None else round(compacted * share),
        )

    def _measure(self, mask: Tensor, layout: Layout) -> _Costs:
        mask = mask.cpu()
        used = mask if self._units is None else self._units.used(mask, layout)
        density = {s.name: float(used[s.slice].double().mean()) for s in layout if s.kind == "weight"}
        compacted, reason = None, self._problem or self._reason
        if self._units is not None and self._problem is None:
            live = torch.cat(self._units.live_units(mask, layout)).numpy().tobytes()
            if live not in self._by_units:  # the same units, the same model
                self._by_units[live] = self._compacted(self._units, mask, layout)
            compacted, reason = self._by_units[live]
        return _Costs(_sparse(self._forward, density), _sparse(self._training, density), compacted, reason)

    def _compacted(self, units: Units, mask: Tensor, layout: Layout) -> tuple[tuple[int, int] | None, str]:
        """Forward and training of the smaller model, or None and why there is none."""
        try:
            smaller = compact(self._module, units, layout, layout.vector(self._module), mask)
        except UnsupportedModelError as error:
            return None, str(error)
        shapes = tuple(tensor.shape for tensor in smaller.state_dict().values())
        if shapes not in self._by_shapes:  # the same shapes, the same operations
            self._by_shapes[shapes] = self._totals(smaller)
        return self._by_shapes[shapes], "ok"

    def _totals(self, smaller: nn.Module) -> tuple[int, int]:
        """Forward and training of a compacted model, which may be changed; nothing is run where numbers follow."""
        if not self._in_proportion:
            forward, training = self._count(smaller)
            return forward.total, training.total
        left = {name: (weight.numel(), prod(self._layout[name].shape)) for name, weight in smaller.named_parameters()}
        return self._forward.of_smaller(left), self._training.of_smaller(left)

    def _count(self, module: nn.Module) -> tuple[Operations, Operations]:
        """Count a forward pass, and a training step's forward and backward passes, of a module that they may change."""
        named = dict(module.named_parameters())
        weights = {segment.name: named[segment.name] for segment in self._layout if segment.kind == "weight"}
        forward, training = (count_pass(module, self._inputs, weights, training=which) for which in (False, True))
        return forward, training


def _sparse(found: Operations, density: dict[str, float]) -> float:
    return found.total - sum(flops * (1 - density[weight]) for weight, flops in found.of_weights.items())
