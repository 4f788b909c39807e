"""One flat float vector <-> the named tensors of a module. Only this file and compaction know modules and names.

A client's contribution is a row of a matrix ``(..., params)``; everything else in the project works on such rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, fx, nn

from autoflip_secure.errors import UnsupportedModelError

Kind = Literal["weight", "bias", "norm", "buffer"]
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
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
    trained: bool  # a parameter with ``requires_grad``: neither a buffer nor frozen
    hidden: bool  # a trained weight that may be pruned: neither the output layer nor the first convolution
    output: bool  # belongs to the output layer
    normalised: bool  # a normalisation layer follows, so the scale of this weight means nothing

    @property
    def slice(self) -> slice:
        """Coordinates of this tensor in the flat vector."""
        return slice(self.start, self.stop)

    @property
    def frozen(self) -> bool:
        """A parameter that nobody trains: it stays as it is, and is sent to each client once."""
        return not self.trained and self.kind != "buffer"


@dataclass(frozen=True)
class Layout:
    """The order and meaning of the ``params`` coordinates of a module: its parameters, then its float buffers.

    Frozen parameters (``requires_grad`` is False) are coordinates too, since every seed has its own, but they are never
    masked, attacked, noised, scored or summed, and travel only once: see :attr:`trained` and :attr:`sent`.
    """

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
        """Trained weights and biases grouped by owning layer, in order (normalisation and buffers left out)."""
        groups: dict[str, list[Segment]] = {}
        for segment in self.segments:
            if segment.trained and segment.kind in ("weight", "bias"):
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
    def trained(self) -> Bool[Tensor, " params"]:
        """Indicator of the parameters that are trained, as against frozen ones and buffers (running statistics)."""
        return self.where(*(segment for segment in self.segments if segment.trained))

    @cached_property
    def frozen(self) -> Bool[Tensor, " params"]:
        """Indicator of the parameters that nobody trains."""
        return self.where(*(segment for segment in self.segments if segment.frozen))

    @cached_property
    def sent(self) -> Bool[Tensor, " params"]:
        """Indicator of what clients and server exchange every round: trained parameters and buffers."""
        return ~self.frozen

    @cached_property
    def _some_frozen(self) -> bool:
        return bool(self.frozen.any())

    @cached_property
    def everything_trained(self) -> bool:
        """No parameter is frozen, and there are no buffers."""
        return bool(self.trained.all())

    def of_trained(self, rows: Shaped[Tensor, "*batch params"]) -> Shaped[Tensor, "*batch params"]:
        """``rows`` times the indicator of what is trained: ``rows`` themselves when everything is."""
        return rows if self.everything_trained else rows * self.trained.to(rows.device)

    def of_sent(self, rows: Shaped[Tensor, "*batch params"]) -> Shaped[Tensor, "*batch sent"]:
        """The sent coordinates of ``rows``: ``rows`` themselves when nothing is frozen."""
        return rows[..., self.sent.to(rows.device)] if self._some_frozen else rows

    def still(self, rows: Shaped[Tensor, "*batch params"]) -> Shaped[Tensor, "*batch params"]:
        """``rows`` with zeros where parameters are frozen: ``rows`` themselves when nothing is."""
        return torch.where(self.sent.to(rows.device), rows, 0) if self._some_frozen else rows

    def spread(
        self, values: Shaped[Tensor, "*batch chosen"], where: Bool[Tensor, " params"]
    ) -> Shaped[Tensor, "*batch params"]:
        """Inverse of ``rows[..., where]``, zero elsewhere: ``values`` themselves when ``where`` is everywhere."""
        if values.shape[-1] == self.size:
            return values
        rows = values.new_zeros(*values.shape[:-1], self.size)
        rows[..., where.to(rows.device)] = values
        return rows

    def tensors(self, rows: Tensor) -> dict[str, Tensor]:
        """Named views into ``rows`` of shape (..., params): each of shape (..., *segment.shape)."""
        return {s.name: rows[..., s.slice].reshape((*rows.shape[:-1], *s.shape)) for s in self}

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
        """Read the layout off a module.

        Layers are taken in the order in which the forward pass uses them where torch.fx can trace it, else in order of
        registration. The *output* layer is the last one with a weight of two or more dimensions; a layer is
        *normalised* when the next one is a normalisation; a weight that the forward pass never uses is not hidden.
        Tied weights are one segment, under the name they are registered first, and count for all their owners.
        Buffers that the state dict leaves out (derived constants) are no coordinates.

        Raises:
            UnsupportedModelError: the module has no parameters.
        """
        owners = dict(module.named_modules(remove_duplicate=False))
        saved = module.state_dict(keep_vars=True)
        every = [(n, p, n.rpartition(".")[0]) for n, p in module.named_parameters(remove_duplicate=False)]
        if not every:
            raise UnsupportedModelError(f"{type(module).__name__} has no parameters; give a model that can be trained")
        homes: dict[int, set[str]] = {}
        for _, parameter, layer in every:
            homes.setdefault(id(parameter), set()).add(layer)
        weighted = {n for _, p, n in every if p.dim() >= 2 and not isinstance(owners[n], _NORMS)}
        order = _order(module, dict(module.named_modules()))
        output = next((n for n in reversed(order) if n in weighted), None)
        first_convolution = next((n for n in order if isinstance(owners[n], _CONVOLUTIONS)), None)
        normalised = {n for n, following in pairwise(order) if isinstance(owners[following], _NORMS)}
        segments: list[Segment] = []
        start = 0
        named: dict[str, Tensor] = dict(module.named_parameters())
        named.update((n, b) for n, b in module.named_buffers() if b.is_floating_point() and n in saved)
        for name, tensor in named.items():
            layer = name.rpartition(".")[0]
            homes_of = homes.get(id(tensor), {layer})
            kind: Kind = "bias"
            if not isinstance(tensor, nn.Parameter):
                kind = "buffer"
            elif isinstance(owners[layer], _NORMS):
                kind = "norm"
            elif tensor.dim() >= 2:
                kind = "weight"
            exempt = homes_of.isdisjoint(order) or not homes_of.isdisjoint({output, first_convolution})
            stop = start + prod(tensor.shape)
            segments.append(
                Segment(
                    name=name,
                    layer=layer,
                    kind=kind,
                    shape=tuple(tensor.shape),
                    start=start,
                    stop=stop,
                    trained=kind != "buffer" and tensor.requires_grad,
                    hidden=kind == "weight" and tensor.requires_grad and not exempt,
                    output=output in homes_of,
                    normalised=not homes_of.isdisjoint(normalised),
                )
            )
            start = stop
        return cls(tuple(segments))


def _order(module: nn.Module, owners: dict[str, nn.Module]) -> list[str]:
    """Names of the submodules that own parameters or normalise, in the order the forward pass uses them (a layer used
    twice comes twice); in order of registration when the forward pass cannot be traced."""
    leaves = [n for n, m in owners.items() if isinstance(m, _NORMS) or any(True for _ in m.parameters(recurse=False))]
    if _in_turn(module, owners):
        return leaves
    try:
        graph = fx.Tracer().trace(copy.deepcopy(module))
    except Exception:  # tracing runs the user's own forward on stand-ins: anything can come out
        return leaves
    order: list[str] = []
    for node in graph.nodes:
        if node.op == "get_attr":
            order += [n for n in leaves if n == str(node.target).rpartition(".")[0]]
        elif node.op == "call_module":
            order += [n for n in leaves if f"{n}.".startswith(f"{node.target}.")]
    return order


def _in_turn(module: nn.Module, owners: dict[str, nn.Module]) -> bool:
    """Whether the forward pass needs no tracing: layers of torch in :class:`torch.nn.Sequential`, each once."""
    names = [name for name, _ in module.named_modules(remove_duplicate=False)]
    tracer = fx.Tracer()
    return len(names) == len(owners) and all(
        type(one) is nn.Sequential and not one._forward_hooks and not one._forward_pre_hooks
        if name == "" or not tracer.is_leaf_module(one, name)
        else next(one.children(), None) is None
        for name, one in owners.items()
    )
