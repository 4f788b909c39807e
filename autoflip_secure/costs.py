"""What a run costs, measured on what is really sent and computed.

Bytes are the length of messages that were really encoded (and can be decoded). A message is

    header (14 bytes: magic, version, flags, coordinates, values)  |  bits  |  live values, float32, little endian

where *bits* tell the live from the masked coordinates: none when both sides know the mask, else one per prunable
weight, and one per other coordinate only if some of those are masked (a dead unit takes its bias and columns along).
FLOPs are counted by :class:`torch.utils.flop_counter.FlopCounterMode`, 2 per multiply-add, on real passes.
"""

from __future__ import annotations

import copy
import hashlib
import struct
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.parameters import Layout
from autoflip_secure.pruning.compaction import compact
from autoflip_secure.record import Bytes, Flops
from autoflip_secure.structure import Chain

_HEADER = struct.Struct("<4sBBII")  # magic, version, flags, coordinates, values
_MAGIC, _VERSION = b"AFLP", 1
_PRUNABLE_BITS, _OTHER_BITS = 1, 2  # flags
T = TypeVar("T")


# ---------------------------------------------------------------------------------------------- bytes


def encode(vector: Float[Tensor, " params"], mask: Bool[Tensor, " params"], layout: Layout, *, bitmask: bool) -> bytes:
    """The message that carries the live coordinates of ``vector`` (weights, an update), and the mask if ``bitmask``.

    Bit patterns are kept, NaN payloads included.
    """
    live = mask.cpu()
    values = vector.detach().cpu()[live].numpy().astype("<f4", copy=False)
    flags, bits = 0, b""
    if bitmask:
        flags = _PRUNABLE_BITS | (0 if bool(live[~layout.prunable].all()) else _OTHER_BITS)
        bits = np.packbits(live[_covered(layout, flags)].numpy()).tobytes()
    return _HEADER.pack(_MAGIC, _VERSION, flags, layout.size, len(values)) + bits + values.tobytes()


def decode(
    payload: bytes, layout: Layout, mask: Bool[Tensor, " params"] | None = None
) -> tuple[Float[Tensor, " params"], Bool[Tensor, " params"]]:
    """Inverse of :func:`encode`: the vector, zero where masked, and the mask.

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
    if magic != _MAGIC or version != _VERSION or flags not in (0, _PRUNABLE_BITS, _PRUNABLE_BITS | _OTHER_BITS):
        raise InputError(
            f"message starts with {magic!r}, version {version}, flags {flags}; expected {_MAGIC!r}, version {_VERSION},"
            " flags 0, 1 or 3: it is none of ours, or of another version"
        )
    if coordinates != layout.size:
        raise InputError(f"message is about {coordinates} coordinates, the model has {layout.size}; use its own model")
    if (mask is None) == (flags == 0):
        wanted = "carries no bitmask: give the mask" if flags == 0 else "carries its bitmask: give no other mask"
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
    if int(live.sum()) != count:
        raise InputError(f"message has {count} values for {int(live.sum())} live coordinates; sender's mask is another")
    vector = torch.zeros(layout.size)
    values = np.frombuffer(payload, "<i4", count, _HEADER.size + packed).astype(np.int32)
    vector.view(torch.int32)[live] = torch.from_numpy(values)  # as bits: torch writes a lone value through a double
    return vector, live


def _covered(layout: Layout, flags: int) -> Tensor:
    """Coordinates, in order, whose mask the bits of a message tell."""
    parts = [layout.prunable] * bool(flags & _PRUNABLE_BITS) + [~layout.prunable] * bool(flags & _OTHER_BITS)
    return torch.cat([torch.zeros(0, dtype=torch.long), *(part.nonzero().flatten() for part in parts)])


class _PerMask(Generic[T]):
    """Remembers what was computed for a mask: by the tensor itself while it is unchanged, else by its content."""

    def __init__(self, compute: Callable[[Tensor, Layout], T]) -> None:
        self._compute = compute
        self._by_tensor: MutableMapping[Tensor, tuple[int, Layout, T]] = WeakTensorKeyDictionary()
        self._by_content: dict[tuple[bytes, Layout], T] = {}

    def __call__(self, mask: Tensor, layout: Layout) -> T:
        known = self._by_tensor.get(mask)
        if known is not None and known[0] == mask._version and known[1] is layout:
            return known[2]
        content = hashlib.sha1(np.packbits(mask.cpu().numpy()).tobytes(), usedforsecurity=False).digest()
        if (content, layout) not in self._by_content:
            self._by_content[content, layout] = self._compute(mask, layout)
        value = self._by_content[content, layout]
        self._by_tensor[mask] = (mask._version, layout, value)
        return value


def _message_sizes(mask: Tensor, layout: Layout) -> tuple[int, int]:
    weights = torch.zeros(layout.size)
    return len(encode(weights, mask, layout, bitmask=False)), len(encode(weights, mask, layout, bitmask=True))


_sizes = _PerMask(_message_sizes)


def round_bytes(mask: Bool[Tensor, " params"], layout: Layout, clients: int) -> Bytes:
    """One round: each participant receives the live weights and sends its update of them."""
    values, bits = (clients * size for size in _sizes(mask, layout))
    return Bytes(uplink_values=values, uplink_bitmask=bits, downlink_values=values, downlink_bitmask=bits)


def exploration_bytes(layout: Layout, explorers: int) -> Bytes:
    """Phase 1: each explorer receives w_0 and sends its signed deviation, both dense; no mask exists yet."""
    everything = torch.ones(layout.size, dtype=torch.bool)
    size = explorers * len(encode(torch.zeros(layout.size), everything, layout, bitmask=False))
    return Bytes(uplink_values=size, uplink_bitmask=size, downlink_values=size, downlink_bitmask=size)


# ---------------------------------------------------------------------------------------------- FLOPs


@dataclass(frozen=True)
class _Count:
    """FLOPs of one pass over a batch: in all, and the part in which each layer's weights take part."""

    total: int
    layers: dict[str, int]

    def sparse(self, density: dict[str, float]) -> float:
        return self.total - sum(flops * (1 - density[layer]) for layer, flops in self.layers.items())


@dataclass(frozen=True)
class _Costs:
    """What one mask costs, per batch."""

    sparse_forward: float
    sparse_training: float
    compacted: tuple[int, int] | None  # forward, training
    reason: str  # "ok", or why there is no compacted model


class CostModel:
    """FLOPs of the dense, the sparse and the compacted model, counted once per mask and remembered.

    Dense and compacted are counted on real passes over a batch. Sparse is the dense count with each layer's part scaled
    by the share of its weights that live.

    Args:
        module: left as it is.
        layout: of ``module``.
        chain: of ``module``; None when its units are unknown, then nothing is compacted.
        reason: why ``chain`` is None.
        sample: a batch of inputs; its first row is used.
        batch_size: samples per training step; at least 2 are run, since normalisation cannot train on one.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: Layout,
        chain: Chain | None,
        reason: str,
        sample: Num[Tensor, "batch ..."],
        batch_size: int,
    ) -> None:
        self._module = copy.deepcopy(module).cpu()
        self._layout, self._chain, self._reason = layout, chain, reason
        self._batch = min(max(2, batch_size), 16)  # counts are proportional to it; memory is too
        self._inputs = sample[:1].cpu().repeat(self._batch, *[1] * (sample.dim() - 1))
        self._forward, self._training = self._count(self._module)
        self._costs = _PerMask(self._measure)
        #: "ok", or why the model cannot be compacted; for one mask see :meth:`compaction_of`
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
        """ "ok", or why the model cannot be compacted under ``mask`` (say, because the mask cuts the network)."""
        return self._costs(mask, self._layout).reason

    def _flops(self, samples: int, dense: float, sparse: float, compacted: float | None) -> Flops:
        share = samples / self._batch
        return Flops(
            dense=round(dense * share),
            sparse=round(sparse * share),
            compacted=None if compacted is None else round(compacted * share),
        )

    def _measure(self, mask: Tensor, layout: Layout) -> _Costs:
        live, size = dict.fromkeys(self._forward.layers, 0), dict.fromkeys(self._forward.layers, 0)
        for segment in layout:
            if segment.kind == "weight":
                live[segment.layer] += int(mask[segment.slice].sum())
                size[segment.layer] += segment.stop - segment.start
        density = {layer: live[layer] / size[layer] for layer in live}
        compacted, reason = None, self._reason
        if self._chain is not None:
            try:
                smaller = compact(self._module, self._chain, layout, layout.vector(self._module), mask.cpu())
            except UnsupportedModelError as error:
                reason = str(error)
            else:
                forward, training = self._count(smaller)
                compacted, reason = (forward.total, training.total), "ok"
        return _Costs(self._forward.sparse(density), self._training.sparse(density), compacted, reason)

    def _count(self, module: nn.Module) -> tuple[_Count, _Count]:
        """Count a forward pass, and a training step's forward and backward passes.

        Backward, a layer works once for its weights and once for its inputs (if they need a gradient, as those behind
        its children do), each as much as forward. That is computed, not read off the counter, which assigns backward
        work to the wrong layer where branches meet.
        """
        module = copy.deepcopy(module)
        layers = {segment.layer for segment in self._layout if segment.kind == "weight"}
        passes: dict[str, int] = {}
        hooks = []
        for layer in layers:
            owner = module.get_submodule(layer)
            trained = any(parameter.requires_grad for parameter in owner.parameters(recurse=False))

            def note(owner: nn.Module, inputs: tuple[object, ...], layer: str = layer, trained: bool = trained) -> None:
                passed = any(isinstance(value, Tensor) and value.requires_grad for value in inputs)
                passes[layer] = 1 + trained + (passed or any(True for _ in owner.children()))

            hooks.append(owner.register_forward_pre_hook(note))
        with torch.random.fork_rng(devices=[]):  # dropout must not shift anybody's draws
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                module.eval()(self._inputs)
            forward = {layer: _own_flops(counter, module, layer) for layer in layers}
            total = counter.get_total_flops()
            with torch.enable_grad(), FlopCounterMode(display=False) as counter:
                module.train()(self._inputs).sum().backward()
        training = {layer: flops * passes.get(layer, 0) for layer, flops in forward.items()}
        return _Count(total, forward), _Count(counter.get_total_flops(), training)


def _own_flops(counter: FlopCounterMode, module: nn.Module, layer: str) -> int:
    """FLOPs counted inside a submodule and outside its children."""
    counts = counter.get_flop_counts()

    def flops(name: str) -> int:
        return sum(counts.get(".".join(filter(None, (type(module).__name__, name))), {}).values())

    children = (".".join(filter(None, (layer, name))) for name, _ in module.get_submodule(layer).named_children())
    return flops(layer) - sum(map(flops, children))
