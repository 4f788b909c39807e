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
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Num, Shaped
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.models.chain_reading import read_layers
from autoflip_secure.models.layout import Layout, Segment
from autoflip_secure.models.unit_layers import UnitLayer
from autoflip_secure.models.units import LayerUnits, UnitGroup, Units


@dataclass(frozen=True)
class Chain(Units):
    """The layers in the order of the forward pass, each a group of units. All but the last are hidden."""

    layers: tuple[UnitLayer, ...]
    input_shape: tuple[int, ...]
    input_dtype: torch.dtype
    kept_whole: tuple[str, ...] = ()
    branches: ClassVar[bool] = False

    @classmethod
    def of(cls, module: nn.Module, sample: Num[Tensor, "batch ..."]) -> Chain:
        """Prove that ``module`` is a chain of layers, by torch.fx, on ``sample`` (a batch; its first row is used).

        Raises:
            UnsupportedModelError: it is not a chain, or that cannot be proven; says at which operation and why.
        """
        return cls(read_layers(module, sample), tuple(sample.shape[1:]), sample.dtype)

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """One per layer."""
        return tuple(UnitGroup(layer.name, layer.units) for layer in self.layers)

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
        if not bool(layout.frozen.any()):
            return mask
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

    def sums(self, rows: Float[Tensor, "batch params"], layout: Layout) -> list[Float[Tensor, "batch _"]]:
        """Per hidden layer, sums of ``rows`` over what makes each unit: incoming weights, bias, normalisation."""
        found = []
        for layer, block in zip(self.layers[:-1], self.blocks(rows, layout), strict=False):
            own = [rows[:, s.slice].reshape(len(rows), layer.units, -1) for s in self._per_unit(layer, layout)]
            found.append(sum((part.sum(-1) for part in own), block.flatten(2).sum(-1)))
        return found

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

    def fixed_macs(self, layout: Layout) -> int:
        """Of layers that neither make nor read removable units."""
        free = self.removable(layout)
        touched = zip(self.layers, [False, *free], [*free, False], strict=True)
        return sum(layer.macs for layer, inputs, units in touched if not (inputs or units))

    def mean_weights(
        self, rows: Float[Tensor, "batch params"], layout: Layout
    ) -> list[tuple[Float[Tensor, "batch _"], Float[Tensor, "batch _"]]]:
        """Rows of a layer come in, column blocks of the next one go out."""
        between = pairwise(self.blocks(rows, layout))  # (batch, units, inputs, fan)
        return [(incoming.mean((-1, -2)), outgoing.mean((-1, -3))) for incoming, outgoing in between]

    def fully_connected(self, layout: Layout) -> list[Segment]:
        """As :meth:`.Units.fully_connected`."""
        segments = [layout[layer.weight] for layer in self.layers if not layer.convolution]
        return [segment for segment in segments if segment.hidden]

    def of_weights(self, mask: Bool[Tensor, " params"], layout: Layout) -> dict[str, LayerUnits]:
        """Every layer's units."""
        live = self.live_units(mask, layout)
        return {
            layer.weight: LayerUnits(layer.units, int(units.sum()))
            for layer, units in zip(self.layers, live, strict=True)
        }

    def narrowed(
        self, weights: Float[Tensor, " params"], kept: Sequence[Bool[Tensor, " _"]], layout: Layout
    ) -> dict[str, Tensor]:
        """Rows of a layer and columns of the next, biases and what is attached."""
        tensors: dict[str, Tensor] = {}
        inputs = torch.ones(self.layers[0].inputs, dtype=torch.bool, device=weights.device)
        for layer, block, units in zip(self.layers, self.blocks(weights, layout), kept, strict=True):
            shape = layout[layer.weight].shape
            narrow = block[units][:, inputs]
            tensors[layer.weight] = (
                narrow.flatten(1) if len(shape) == 2 else narrow.reshape(*narrow.shape[:2], *shape[2:])
            )
            for name in (*filter(None, (layer.bias,)), *layer.attached):
                tensors[name] = weights[layout[name].slice].view(layer.units, -1)[units].flatten()
            inputs = units
        return tensors

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
