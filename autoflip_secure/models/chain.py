"""Which neurons and filters feed which: the chain of layers of a model, and what a mask on weights means for units.

A *unit* is a neuron of a fully connected layer or a filter of a convolution. In a chain, unit u of layer l is read by
layer l+1 alone, so its weights are row u of layer l (incoming) and column block u of layer l+1 (outgoing). A hidden
unit with no live incoming or no live outgoing weight is *dead*: it goes, with its bias, its normalisation and all its
weights. What a dead unit would put out (f(0) of its activation) does not matter: nobody reads it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Num, Shaped
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.models.chain_reading import read_layers
from autoflip_secure.models.layout import Layout, Segment
from autoflip_secure.models.unit_layers import UnitLayer


@dataclass(frozen=True)
class Chain:
    """The layers in the order of the forward pass. All but the last are hidden; outputs are never dropped."""

    layers: tuple[UnitLayer, ...]
    input_shape: tuple[int, ...]  # of one sample, without the batch
    input_dtype: torch.dtype

    @classmethod
    def of(cls, module: nn.Module, sample: Num[Tensor, "batch ..."]) -> Chain:
        """Prove that ``module`` is a chain of layers, by torch.fx, on ``sample`` (a batch; its first row is used).

        Raises:
            UnsupportedModelError: it is not a chain, or that cannot be proven; says at which operation and why.
        """
        return cls(read_layers(module, sample), tuple(sample.shape[1:]), sample.dtype)

    def blocks(self, rows: Shaped[Tensor, "*batch params"], layout: Layout) -> list[Shaped[Tensor, "*batch _ _ _"]]:
        """Per layer, a view into ``rows`` of its weights, shape (..., units, inputs, fan)."""
        shapes = [(layer.units, layer.inputs, layer.fan) for layer in self.layers]
        return [
            rows[..., layout[layer.weight].slice].view(*rows.shape[:-1], *shape)
            for layer, shape in zip(self.layers, shapes, strict=True)
        ]

    def close(self, mask: Bool[Tensor, " params"], layout: Layout) -> Bool[Tensor, " params"]:
        """Dead-unit closure: the largest mask within ``mask`` that has no dead hidden unit with a live coordinate.

        One sweep forward and one backward reach the fixed point: dropping a unit for want of outgoing weights takes no
        incoming weight away from any later unit. Monotone and idempotent; returns ``mask`` itself if nothing changes.
        Frozen tensors count as alive until their unit is dead, and are left alive in the mask, which is not about them:
        so a unit that frozen weights read is never dead for want of incoming ones: what it puts out is still read.
        """
        closed = self._closed(mask, layout) | layout.frozen.to(mask.device)
        return mask if torch.equal(closed, mask) else closed

    def _closed(self, mask: Tensor, layout: Layout) -> Bool[Tensor, " params"]:
        """As :meth:`close`, with everything masked that belongs to dead units, frozen or not."""
        closed = mask | layout.frozen.to(mask.device)
        blocks = self.blocks(closed, layout)
        hidden = range(len(blocks) - 1)
        for index in hidden:
            if layout[self.layers[index + 1].weight].trained:
                self._drop(closed, index, ~blocks[index].any(-1).any(-1), layout)
        for index in reversed(hidden):
            self._drop(closed, index, ~blocks[index + 1].any(-1).any(0), layout)
        return closed

    def used(self, mask: Bool[Tensor, " params"], layout: Layout) -> Bool[Tensor, " params"]:
        """``mask`` without the frozen coordinates of dead units: what the forward pass has any use for."""
        return mask & (~layout.frozen.to(mask.device) | self._closed(mask, layout))

    def removable(self, layout: Layout) -> list[bool]:
        """Per hidden layer, whether a pruner may take its units: all weights into and out of them are trained."""
        trained = [layout[layer.weight].trained for layer in self.layers]
        return [own and following for own, following in pairwise(trained)]

    def live_units(self, mask: Bool[Tensor, " params"], layout: Layout) -> list[Bool[Tensor, " _"]]:
        """Per layer, which units are left after closure, shape (units,). Output units always are."""
        blocks = self.blocks(self._closed(mask, layout), layout)
        fed, read = ([block.any(-1).any(axis) for block in blocks] for axis in (-1, 0))
        hidden = [one | other for one, other in zip(fed[:-1], read[1:], strict=True)]
        return [*hidden, torch.ones_like(fed[-1])]

    def keep_units(self, kept: Sequence[Bool[Tensor, " _"]], layout: Layout) -> Bool[Tensor, " params"]:
        """The mask that keeps exactly these units: per layer, shape (units,), everything else (and frozen) alive.

        Raises:
            InputError: not one entry per layer, a wrong length, or an output unit is dropped.
        """
        sizes, wanted = [len(k) for k in kept], [layer.units for layer in self.layers]
        if sizes != wanted:
            raise InputError(f"kept has {sizes} units per layer, the chain has {wanted}; give one flag per unit")
        if not bool(kept[-1].all()):
            raise InputError(f"kept drops outputs of {self.layers[-1].name}; outputs must all be kept")
        mask = torch.ones(layout.size, dtype=torch.bool, device=kept[0].device)
        for index in range(len(self.layers) - 1):
            self._drop(mask, index, ~kept[index], layout)
        return mask | layout.frozen.to(mask.device) if bool(layout.frozen.any()) else mask

    def scaled_macs(self, counts: Sequence[int]) -> int:
        """Multiply-adds of one sample's forward pass with ``counts`` units per layer (outputs included)."""
        return sum(self._weights(index, counts) * layer.positions for index, layer in enumerate(self.layers))

    def _weights(self, index: int, counts: Sequence[int]) -> int:
        inputs = counts[index - 1] if index else self.layers[0].inputs
        return counts[index] * inputs * self.layers[index].fan

    @staticmethod
    def _per_unit(layer: UnitLayer, layout: Layout) -> list[Segment]:
        return [layout[name] for name in (*filter(None, (layer.bias,)), *layer.attached)]

    def _drop(self, mask: Tensor, index: int, dead: Tensor, layout: Layout) -> None:
        """Mask, in place, everything that belongs to the ``dead`` units of one hidden layer."""
        blocks = self.blocks(mask, layout)
        blocks[index][dead] = False
        blocks[index + 1][:, dead] = False
        for segment in self._per_unit(self.layers[index], layout):
            mask[segment.slice].view(self.layers[index].units, -1)[dead] = False
