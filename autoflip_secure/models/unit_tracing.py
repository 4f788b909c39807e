"""Which channels of which layers are coupled: a model's dependencies, as torch-pruning finds them by autograd.

A *slot* is one channel of one side of a layer: output channel 3 of ``conv1``, input channel 3 of ``conv2``.
torch-pruning (Fang et al., *DepGraph: Towards Any Structural Pruning*, CVPR 2023) says which slots have to go together.
Two ties are added: channels of one norm group (a GroupNorm with fewer channels in a group has other statistics) and
both ends of one group of a grouped convolution. What hangs together is one unit. Nothing here is trusted:
:mod:`.unit_proof` takes units out and compares outputs.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose

Side = Literal["out", "in"]
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
OUTPUTS = "they are outputs of the model"
PER_CHANNEL = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.PReLU)


@dataclass
class Traced:
    """A model that was run once: its layers in the order of the forward pass, and the slots that hang together."""

    modules: dict[str, nn.Module]  # of the types above, by name
    positions: dict[str, int]  # output positions of each layer: 1, or H_out * W_out
    slots: dict[tuple[str, Side], list[int]] = field(default_factory=dict)  # slot -> number of its component
    reasons: dict[int, str] = field(default_factory=dict)  # component -> why it stays
    outputs: str = ""  # the layer that makes the outputs; "": unknown


def trace(module: nn.Module, inputs: Tensor) -> Traced:
    """Run ``module`` on ``inputs`` (a batch) and find what hangs together.

    Raises:
        UnsupportedModelError: it cannot be followed; says why.
    """
    name = type(module).__name__
    handles: list[Any] = []
    try:
        net = copy.deepcopy(module).cpu().eval()
        for parameter in net.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)  # torch-pruning follows gradients
        traced, handles = _watched(net)
        graph = _dependencies(net, inputs)
        twice = [layer for layer, count in traced.positions.items() if count < 0]
        if not twice:
            _Components(traced, {m: n for n, m in net.named_modules()}).read(graph)
    except Exception as error:  # the user's own forward, followed by another library: anything can come out
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnsupportedModelError(f"torch-pruning cannot follow {name}: {reason}") from error
    finally:
        for handle in handles:
            handle.remove()
    if twice:
        raise UnsupportedModelError(f"layer {twice[0]!r} of {name} is used more than once; its units are not known")
    return traced


def _watched(net: nn.Module) -> tuple[Traced, list[Any]]:
    """What a forward pass fills in, and the hooks by which it does."""
    traced = Traced({}, {})

    def note(name: str, layer: nn.Module, out: Any) -> None:
        again = name in traced.positions
        traced.modules[name] = layer
        sizes = out.shape[1:-1] if isinstance(layer, nn.Linear) else out.shape[2:]
        traced.positions[name] = -1 if again else prod(sizes)

    handles = [
        layer.register_forward_hook(lambda layer, _, out, name=name: note(name, layer, out))
        for name, layer in net.named_modules()
        if isinstance(layer, LAYERS) or (isinstance(layer, PER_CHANNEL) and channels(layer))
    ]
    return traced, handles


def _dependencies(net: nn.Module, inputs: Tensor) -> Any:
    """torch-pruning's graph; imported here, so that nobody waits for it whose model is a chain."""
    import torch_pruning

    with warnings.catch_warnings(), torch.enable_grad(), drawing_at(0, Purpose.FORWARD):
        warnings.simplefilter("ignore")
        return torch_pruning.DependencyGraph().build_dependency(net, (inputs,), verbose=False)


class _Components:
    """Joins slots, and notes why some of them stay."""

    def __init__(self, traced: Traced, names: dict[nn.Module, str]) -> None:
        self._traced, self._names = traced, names
        self._parent: list[int] = []
        self._first: dict[tuple[str, Side], int] = {}
        for name, layer in traced.modules.items():
            if isinstance(layer, LAYERS):
                self._add(name, "out", layer.weight.shape[0])
                if isinstance(layer, nn.Linear):
                    self._add(name, "in", layer.in_features)
                elif layer.groups == 1 or layer.groups < layer.in_channels or layer.groups != layer.out_channels:
                    self._add(name, "in", layer.in_channels)
            else:
                self._add(name, "out", channels(layer))

    def read(self, graph: Any) -> None:
        """Fill in ``slots``, ``reasons`` and ``outputs``."""
        reasons: list[tuple[int, str]] = []
        seen = set[str]()
        for name, layer in self._traced.modules.items():
            if isinstance(layer, LAYERS) and name not in seen:
                if layer not in graph.module2node:
                    reasons += [(slot, f"layer {name!r} is not followed") for slot in self._side(name, "out")]
                    continue
                made = graph.get_pruner_of_module(layer).prune_out_channels
                group = graph.get_pruning_group(layer, made, list(range(layer.weight.shape[0])))
                reasons += self._couple(graph, name, group, seen)
        self._tie()
        for slot, reason in reasons:
            self._traced.reasons.setdefault(self._root(slot), reason)
        for (name, side), start in self._first.items():
            size = self._size(name, side)
            self._traced.slots[name, side] = [self._root(start + index) for index in range(size)]

    def _couple(self, graph: Any, name: str, group: Any, seen: set[str]) -> list[tuple[int, str]]:
        """Join what one group of torch-pruning couples with the output channels of ``name``."""
        reasons = []
        for item in group:
            module = item.dep.target.module
            other = self._names.get(module, "") if isinstance(module, nn.Module) else ""
            made = graph.is_out_channel_pruning_fn(item.dep.handler)
            side: Side = "out" if made or (other, "in") not in self._first else "in"
            places = [self._first[name, "out"] + root for root in item.root_idxs]
            if (other, side) in self._first:
                size = self._size(other, side)
                if max(item.idxs) >= size:
                    reasons += [(place, f"torch-pruning loses track of the channels of {other!r}") for place in places]
                    continue
                for place, index in zip(places, item.idxs, strict=True):
                    self._join(place, self._first[other, side] + index)
                if side == "out" and len(item.idxs) == size:
                    seen.add(other)
            elif reason := self._stays(module, other):
                reasons += [(place, reason) for place in places]
                if reason == OUTPUTS:
                    self._traced.outputs = name
        return reasons

    def _stays(self, module: Any, name: str) -> str:
        """Why channels that a node of torch-pruning's graph takes part in cannot go; "": they can."""
        if isinstance(module, nn.Parameter):
            return "a parameter outside of any known layer reads them"
        if type(module).__name__ == "_OutputOp":
            return OUTPUTS
        known = isinstance(module, nn.PReLU) and module.num_parameters == 1
        return f"{type(module).__name__} {name!r} has no units that can be told apart" if name and not known else ""

    def _tie(self) -> None:
        """Channels of a norm group go together, and so do both ends of a group of a convolution."""
        for name, layer in self._traced.modules.items():
            if isinstance(layer, nn.GroupNorm):
                self._blocks(self._side(name, "out"), layer.num_groups)
            elif isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups > 1 and (name, "in") in self._first:
                ends = [self._blocks(self._side(name, side), layer.groups) for side in ("out", "in")]
                for made, read in zip(*ends, strict=True):
                    self._join(made, read)

    def _blocks(self, slots: range, count: int) -> list[int]:
        """Join the slots of each of ``count`` consecutive blocks; the first of each."""
        size = len(slots) // count
        for place, slot in enumerate(slots):
            self._join(slots[place - place % size], slot)
        return list(slots[::size])

    def _add(self, name: str, side: Side, size: int) -> None:
        self._first[name, side] = len(self._parent)
        self._parent += range(len(self._parent), len(self._parent) + size)

    def _size(self, name: str, side: Side) -> int:
        layer = self._traced.modules[name]
        if isinstance(layer, nn.Linear):
            return layer.out_features if side == "out" else layer.in_features
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            return layer.out_channels if side == "out" else layer.in_channels
        return channels(layer)

    def _side(self, name: str, side: Side) -> range:
        start = self._first[name, side]
        return range(start, start + self._size(name, side))

    def _root(self, slot: int) -> int:
        while self._parent[slot] != slot:
            self._parent[slot] = self._parent[self._parent[slot]]
            slot = self._parent[slot]
        return slot

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parent[second] = first


def channels(layer: nn.Module) -> int:
    """Channels of a normalisation or PReLU; 0: one slope for all."""
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters if layer.num_parameters > 1 else 0
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    return layer.num_features


def members(traced: Traced) -> dict[int, list[tuple[str, Side, int]]]:
    """Slots of each component, in the order of the forward pass."""
    found: dict[int, list[tuple[str, Side, int]]] = defaultdict(list)
    for (name, side), components in traced.slots.items():
        for index, component in enumerate(components):
            found[component].append((name, side, index))
    return found


def first_reasons(reasons: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """(layer, reason) as sentences, one for each reason."""
    layers: dict[str, list[str]] = {}
    for layer, reason in reasons:
        places = layers.setdefault(reason, [])
        if layer not in places:
            places.append(layer)
    return tuple(f"units of {', '.join(places)} stay: {reason}" for reason, places in layers.items())
