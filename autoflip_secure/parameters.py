"""One flat float vector <-> the named tensors of a module. Only this file (and compaction) knows about modules and names.

A client's contribution is a row of a matrix ``(..., params)``; everything else in the project works on such rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Kind = Literal["weight", "bias", "norm", "buffer"]
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Segment:
    """Where one tensor of the module lies in the flat vector, and what it is."""

    name: str  # as in ``module.state_dict()``
    layer: str  # name of the owning submodule
    kind: Kind
    shape: tuple[int, ...]
    start: int
    stop: int
    hidden: bool  # a weight that may be pruned: neither the output layer nor the first convolution
    output: bool  # belongs to the output layer
    normalised: bool  # a normalisation layer follows, so the scale of this weight means nothing

    @property
    def slice(self) -> slice:
        """Coordinates of this tensor in the flat vector."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Layout:
    """The order and meaning of the ``params`` coordinates of a module: its parameters, then its float buffers."""

    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        """Number of coordinates, P."""
        return self.segments[-1].stop

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __getitem__(self, name: str) -> Segment:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Segment]:
        return {segment.name: segment for segment in self.segments}

    @cached_property
    def hidden(self) -> tuple[Segment, ...]:
        """The weight tensors that may be pruned."""
        return tuple(segment for segment in self.segments if segment.hidden)

    @cached_property
    def layers(self) -> tuple[tuple[Segment, ...], ...]:
        """Weights and biases grouped by owning layer, in order (normalisation and buffers left out)."""
        groups: dict[str, list[Segment]] = {}
        for segment in self.segments:
            if segment.kind in ("weight", "bias"):
                groups.setdefault(segment.layer, []).append(segment)
        return tuple(tuple(group) for group in groups.values())

    def where(self, *segments: Segment) -> Bool[Tensor, " params"]:
        """Indicator of the coordinates of ``segments``."""
        chosen = torch.zeros(self.size, dtype=torch.bool)
        for segment in segments:
            chosen[segment.slice] = True
        return chosen

    @cached_property
    def prunable(self) -> Bool[Tensor, " params"]:
        """Indicator of the coordinates of hidden weights."""
        return self.where(*self.hidden)

    @cached_property
    def trainable(self) -> Bool[Tensor, " params"]:
        """Indicator of parameters, as against buffers (running statistics)."""
        return ~self.where(*(segment for segment in self.segments if segment.kind == "buffer"))

    def tensors(self, rows: Tensor) -> dict[str, Tensor]:
        """Named views into ``rows`` of shape (..., params): each of shape (..., *segment.shape)."""
        return {s.name: rows[..., s.slice].unflatten(-1, s.shape or (1,)).reshape(*rows.shape[:-1], *s.shape) for s in self}

    def flatten(self, tensors: dict[str, Tensor]) -> Tensor:
        """Inverse of :meth:`tensors` for a single model: a new vector of shape (params,)."""
        return torch.cat([tensors[s.name].detach().reshape(-1).to(torch.float32) for s in self])

    def vector(self, module: nn.Module) -> Float[Tensor, " params"]:
        """The weights of ``module`` as a new vector."""
        return self.flatten(module.state_dict(keep_vars=True))

    def load(self, module: nn.Module, vector: Float[Tensor, " params"]) -> None:
        """Copy ``vector`` into the parameters and buffers of ``module``."""
        state = module.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, tensor in self.tensors(vector).items():
                state[name].copy_(tensor)

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """Read the layout off a module. The output layer is the last weight of two or more dimensions in registration
        order; a layer is *normalised* when the next registered layer is a normalisation."""
        owners = dict(module.named_modules())
        leaves = [name for name, m in owners.items() if any(True for _ in m.parameters(recurse=False))]
        weights = [
            (name, tensor)
            for name, tensor in module.named_parameters()
            if tensor.dim() >= 2 and not isinstance(owners[name.rpartition(".")[0]], _NORMS)
        ]
        output = weights[-1][0].rpartition(".")[0] if weights else None
        first_convolution = next((n for n, m in owners.items() if isinstance(m, _CONVOLUTIONS)), None)
        segments: list[Segment] = []
        start = 0
        named = [(n, p, False) for n, p in module.named_parameters()]
        named += [(n, b, True) for n, b in module.named_buffers() if b.is_floating_point()]
        for name, tensor, is_buffer in named:
            layer = name.rpartition(".")[0]
            kind: Kind = "bias"
            if is_buffer:
                kind = "buffer"
            elif isinstance(owners[layer], _NORMS):
                kind = "norm"
            elif tensor.dim() >= 2:
                kind = "weight"
            following = leaves[leaves.index(layer) + 1 :][:1] if layer in leaves else []
            stop = start + prod(tensor.shape)
            segments.append(
                Segment(
                    name=name,
                    layer=layer,
                    kind=kind,
                    shape=tuple(tensor.shape),
                    start=start,
                    stop=stop,
                    hidden=kind == "weight" and layer not in (output, first_convolution),
                    output=layer == output,
                    normalised=any(isinstance(owners[n], _NORMS) for n in following),
                )
            )
            start = stop
        return cls(tuple(segments))
