"""Units of models that are no chain: groups of coupled rows, columns and tensors of their own.

Residual sums, normalisations, depthwise and grouped convolutions, squeeze-and-excitation gates and concatenations tie
channels of many layers together. Channels that have to go together are one unit (:mod:`.unit_tracing`); units that take
part in the same places, as often, are one group. What a unit would put out when it is dead (a bias of its
normalisation, f(0) of its activation, a gate of 1/2) does not matter, exactly as in a chain: all that reads it is
masked with it. Where something reads it that has no mask (statistics over channels), it is no unit: it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.models.layout import Layout, Segment
from autoflip_secure.models.units import LayerUnits, UnitGroup, Units


@dataclass(frozen=True)
class Axis:
    """To which units the rows or columns of a tensor belong: a unit's number for each, -1 for what always stays."""

    units: tuple[int, ...]

    @cached_property
    def ids(self) -> Tensor:
        """The same as a tensor, to index flags of all units with one more, for -1, at their end."""
        return torch.tensor(self.units, dtype=torch.long)

    def of(self, flags: Tensor, other: bool) -> Bool[Tensor, " _"]:
        """Per row or column its unit's flag, ``other`` where it has none."""
        more = torch.full((1,), other, dtype=torch.bool, device=flags.device)
        return torch.cat([flags, more])[self.ids.to(flags.device)]

    def places(self, start: int, stop: int) -> Tensor:
        """Rows or columns of units start … stop - 1, unit by unit."""
        inside = ((self.ids >= start) & (self.ids < stop)).nonzero().squeeze(1)
        return inside[self.ids[inside].argsort(stable=True)]


@dataclass(frozen=True)
class WeightUnits:
    """One weight tensor, seen as (rows, columns, fan)."""

    weight: str  # segment name
    rows: Axis
    columns: Axis
    fan: int  # weights between a row and a column: kernel size of a convolution
    positions: int  # output positions at which a weight is used
    linear: bool  # fully connected
    tied: bool  # depthwise and grouped filters: rows are a unit's own, neither coming in nor going out


@dataclass(frozen=True)
class UnitGraph(Units):
    """Groups of coupled channels. Built by :func:`~.unit_reading.read_graph`; equal outputs are tried out there."""

    hidden: tuple[UnitGroup, ...]
    outputs: UnitGroup
    weights: tuple[WeightUnits, ...]  # in the order of the forward pass
    own: tuple[tuple[str, Axis], ...]  # biases, normalisation and slopes: segment names
    input_shape: tuple[int, ...]
    input_dtype: torch.dtype
    kept_whole: tuple[str, ...] = ()
    branches: ClassVar[bool] = True

    @classmethod
    def of(cls, module: nn.Module, sample: Num[Tensor, "batch ..."]) -> UnitGraph:
        """The units of ``module``, found and tried out on ``sample`` (a batch; its first row is used).

        Raises:
            UnsupportedModelError: it cannot be followed, or no unit of it can be taken out; says why.
        """
        from autoflip_secure.models.unit_reading import read_graph

        return read_graph(module, sample)

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """Hidden groups in the order of the forward pass, and the outputs."""
        return (*self.hidden, self.outputs)

    @cached_property
    def _ranges(self) -> list[tuple[int, int]]:
        ends = [0]
        for group in self.hidden:
            ends.append(ends[-1] + group.units)
        return list(pairwise(ends))

    @property
    def _count(self) -> int:
        return self._ranges[-1][1] if self._ranges else 0

    def _block(self, rows: Tensor, one: WeightUnits, layout: Layout) -> Tensor:
        """A view of shape (..., rows, columns, fan)."""
        shape = (len(one.rows.units), len(one.columns.units), one.fan)
        return rows[..., layout[one.weight].slice].view(*rows.shape[:-1], *shape)

    def close(self, mask: Bool[Tensor, " params"], layout: Layout) -> Bool[Tensor, " params"]:
        """As :meth:`.Units.close`: the fixed point, reached by dropping dead units until none is left.

        A unit that frozen weights read is never dead for want of incoming ones: what it puts out is still read.
        """
        closed = self._closed(mask, layout) | layout.frozen.to(mask.device)
        return mask if torch.equal(closed, mask) else closed

    def _closed(self, mask: Tensor, layout: Layout) -> Bool[Tensor, " params"]:
        """As :meth:`close`, with everything masked that belongs to dead units, frozen or not."""
        closed = mask | layout.frozen.to(mask.device)
        gone = torch.zeros(self._count, dtype=torch.bool, device=mask.device)
        held = self._frozen_readers(layout).to(mask.device)
        while True:
            fed, read = self._fed_and_read(closed, layout)
            dead = (~read | (~fed & ~held)) & ~gone
            if not dead.any():
                return closed
            gone |= dead
            self._drop(closed, dead, layout)

    def _fed_and_read(self, mask: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Per unit, whether any incoming weight lives, and whether any outgoing one does."""
        fed = torch.zeros(self._count + 1, dtype=torch.bool, device=mask.device)
        read = fed.clone()
        for one in self.weights:
            alive = self._block(mask, one, layout).any(-1)
            if not one.tied:
                fed[one.rows.ids.to(mask.device)[alive.any(1)]] = True
            read[one.columns.ids.to(mask.device)[alive.any(0)]] = True
        return fed[:-1], read[:-1]

    def _frozen_readers(self, layout: Layout) -> Tensor:
        """Per unit, whether frozen weights read it."""
        held = torch.zeros(self._count + 1, dtype=torch.bool)
        for one in self.weights:
            if not layout[one.weight].trained:
                held[one.columns.ids] = True
        return held[:-1]

    def _drop(self, mask: Tensor, dead: Tensor, layout: Layout) -> None:
        """Mask, in place, everything that belongs to the ``dead`` units."""
        for one in self.weights:
            block = self._block(mask, one, layout)
            block[one.rows.of(dead, False)] = False
            block[:, one.columns.of(dead, False)] = False
        for name, axis in self.own:
            mask[layout[name].slice].view(len(axis.units), -1)[axis.of(dead, False)] = False

    def used(self, mask: Bool[Tensor, " params"], layout: Layout) -> Bool[Tensor, " params"]:
        """As :meth:`.Units.used`."""
        return mask & (~layout.frozen.to(mask.device) | self._closed(mask, layout))

    def removable(self, layout: Layout) -> list[bool]:
        """Per hidden group, whether all weights of it are trained."""
        stays = torch.zeros(self._count + 1, dtype=torch.bool)
        for one in self.weights:
            if not layout[one.weight].trained:
                stays[one.rows.ids] = stays[one.columns.ids] = True
        return [not bool(stays[start:stop].any()) for start, stop in self._ranges]

    def live_units(self, mask: Bool[Tensor, " params"], layout: Layout) -> list[Bool[Tensor, " _"]]:
        """As :meth:`.Units.live_units`."""
        return self._per_group(self._live(mask, layout))

    def _live(self, mask: Tensor, layout: Layout) -> Bool[Tensor, " units"]:
        fed, read = self._fed_and_read(self._closed(mask, layout), layout)
        return fed | read

    def _per_group(self, flags: Tensor) -> list[Tensor]:
        every = torch.ones(self.outputs.units, dtype=torch.bool, device=flags.device)
        return [*(flags[start:stop] for start, stop in self._ranges), every]

    def keep_units(self, kept: Sequence[Bool[Tensor, " _"]], layout: Layout) -> Bool[Tensor, " params"]:
        """As :meth:`.Units.keep_units`."""
        sizes, wanted = [len(k) for k in kept], [group.units for group in self.groups]
        if sizes != wanted:
            raise InputError(f"kept has {sizes} units per group, the model has {wanted}; give one flag per unit")
        if not bool(kept[-1].all()):
            raise InputError(f"kept drops outputs of {self.outputs.name}; outputs must all be kept")
        mask = torch.ones(layout.size, dtype=torch.bool, device=kept[0].device)
        self._drop(mask, ~torch.cat(list(kept[:-1])), layout)
        return mask | layout.frozen.to(mask.device) if bool(layout.frozen.any()) else mask

    def scaled_macs(self, counts: Sequence[int]) -> int:
        """As :meth:`.Units.scaled_macs`."""
        return sum(self._macs(index, counts) for index in range(len(self.weights)))

    def _macs(self, index: int, counts: Sequence[int]) -> int:
        one = self.weights[index]
        rows, columns = (
            always + sum(each * counts[group] for group, each in of_groups.items())
            for always, of_groups in self._multiples[index]
        )
        return rows * columns * one.fan * one.positions

    @cached_property
    def _multiples(self) -> list[tuple[tuple[int, dict[int, int]], tuple[int, dict[int, int]]]]:
        """Of each weight's rows, and of its columns: how many always stay, and how many each unit of a group has."""
        return [(self._multiple(one.rows), self._multiple(one.columns)) for one in self.weights]

    def _multiple(self, axis: Axis) -> tuple[int, dict[int, int]]:
        places = [len(axis.places(*ends)) for ends in self._ranges]
        each = {group: count // self.hidden[group].units for group, count in enumerate(places) if count}
        return len(axis.units) - sum(places), each

    def fixed_macs(self, layout: Layout) -> int:
        """Of layers that neither make nor read removable units."""
        full = [group.units for group in self.groups]
        removable = zip(self._ranges, self.removable(layout), strict=True)
        free = {unit for (start, stop), may in removable if may for unit in range(start, stop)}
        fixed = [i for i, one in enumerate(self.weights) if free.isdisjoint(one.rows.units + one.columns.units)]
        return sum(self._macs(index, full) for index in fixed)

    def mean_weights(
        self, rows: Float[Tensor, "batch params"], layout: Layout
    ) -> list[tuple[Float[Tensor, "batch _"], Float[Tensor, "batch _"]]]:
        """Over the rows of all layers that make a unit, and over the columns of all that read it."""
        found = []
        for start, stop in self._ranges:
            sides: tuple[list[tuple[Tensor, int]], list[tuple[Tensor, int]]] = ([], [])
            for one in self.weights:
                block = self._block(rows, one, layout)
                made, read = one.rows.places(start, stop), one.columns.places(start, stop)
                if len(made) and not one.tied:
                    own = block.index_select(1, made.to(rows.device)).reshape(len(rows), stop - start, -1)
                    sides[0].append((own.mean(-1), own.shape[-1]))
                if len(read):
                    chosen = block.index_select(2, read.to(rows.device))
                    own = chosen.reshape(len(rows), chosen.shape[1], stop - start, -1)
                    sides[1].append((own.mean((-1, -3)), own.shape[1] * own.shape[3]))
            found.append((_weighted(sides[0]), _weighted(sides[1])))
        return found

    def sums(self, rows: Float[Tensor, "batch params"], layout: Layout) -> list[Float[Tensor, "batch _"]]:
        """Over the rows of all layers that make a unit, biases, normalisations, depthwise and grouped filters."""
        total = rows.new_zeros(len(rows), self._count + 1)  # the last: of what belongs to no unit
        for one in self.weights:
            total.index_add_(
                1, one.rows.ids.to(rows.device) % (self._count + 1), self._block(rows, one, layout).sum((2, 3))
            )
        for name, axis in self.own:
            own = rows[:, layout[name].slice].reshape(len(rows), len(axis.units), -1).sum(-1)
            total.index_add_(1, axis.ids.to(rows.device) % (self._count + 1), own)
        return [total[:, start:stop] for start, stop in self._ranges]

    def fully_connected(self, layout: Layout) -> list[Segment]:
        """As :meth:`.Units.fully_connected`."""
        return [layout[one.weight] for one in self.weights if one.linear and layout[one.weight].hidden]

    def of_weights(self, mask: Bool[Tensor, " params"], layout: Layout) -> dict[str, LayerUnits]:
        """Every followed layer's rows and columns."""
        live = self._live(mask, layout)
        return {
            one.weight: LayerUnits(
                len(one.rows.units), int(one.rows.of(live, True).sum()), int(one.columns.of(live, True).sum())
            )
            for one in self.weights
        }

    def narrowed(
        self, weights: Float[Tensor, " params"], kept: Sequence[Bool[Tensor, " _"]], layout: Layout
    ) -> dict[str, Tensor]:
        """Rows, columns and own tensors of the units that stay."""
        stays = torch.cat(list(kept[:-1]))
        tensors: dict[str, Tensor] = {}
        for one in self.weights:
            shape = layout[one.weight].shape
            narrow = self._block(weights, one, layout)[one.rows.of(stays, True)][:, one.columns.of(stays, True)]
            tensors[one.weight] = narrow.reshape(*narrow.shape[:2], *shape[2:])
        for name, axis in self.own:
            tensors[name] = weights[layout[name].slice].view(len(axis.units), -1)[axis.of(stays, True)].flatten()
        return {name: new for name, new in tensors.items() if new.numel() != prod(layout[name].shape)}


def _weighted(parts: list[tuple[Tensor, int]]) -> Tensor:
    """The mean over all numbers, from the means of parts and their sizes; of one part, that part's."""
    if len(parts) == 1:
        return parts[0][0]
    return sum(mean * size for mean, size in parts) / sum(size for _, size in parts)  # type: ignore[return-value]
