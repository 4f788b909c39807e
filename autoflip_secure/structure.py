"""Which neurons and filters feed which: the chain of layers of a model, and what a mask on weights means for units.

A *unit* is a neuron of a fully connected layer or a filter of a convolution. In a chain, unit u of layer l is read by
layer l+1 alone, so its weights are row u of layer l (incoming) and column block u of layer l+1 (outgoing). A hidden
unit with no live incoming or no live outgoing weight is *dead*: it goes, with its bias, its normalisation and all its
weights. What a dead unit would put out (f(0) of its activation) does not matter: nobody reads it any more.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import torch
from jaxtyping import Bool, Num, Shaped
from torch import Tensor, fx, nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.parameters import Layout, Segment

# Operations that act on each unit alone; lower case without underscores, so nn.ReLU, F.relu, torch.relu_ and x.relu()
# are one name.
# fmt: off
_ELEMENTWISE = frozenset([
    "abs", "add", "alphadropout", "celu", "clamp", "contiguous", "div", "dropout", "dropout1d", "dropout2d", "elu",
    "featurealphadropout", "float", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "identity",
    "leakyrelu", "logsigmoid", "mish", "mul", "neg", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu",
    "softplus", "softshrink", "softsign", "sub", "tanh", "tanhshrink", "threshold", "truediv",
])
# fmt: on
_RESHAPES = frozenset({"flatten", "view", "reshape", "squeeze"})
_POOLING = re.compile(r"(?:adaptive)?(?:max|avg|lp)pool([12])d")
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_PER_UNIT_MODULES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.PReLU)


@dataclass(frozen=True)
class UnitLayer:
    """A fully connected or convolutional layer: ``units`` rows that read ``inputs`` units of the layer before."""

    name: str  # of the submodule
    weight: str  # segment name; so are bias and attached
    bias: str | None
    attached: tuple[str, ...]  # per unit: parameters and buffers of a normalisation (or PReLU) that follows
    inputs: int  # units of the layer before; input features or channels for the first layer
    units: int  # neurons, filters
    fan: int  # weights between one incoming unit and one unit: 1, H*W behind a flatten, kernel size of a convolution
    convolution: bool
    positions: int  # output positions at which a weight is used: 1, or H_out*W_out for a convolution
    macs: int  # multiply-adds of one sample's forward pass, dense


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
        return cls(_read(module, sample), tuple(sample.shape[1:]), sample.dtype)

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

    def scaled_parameters(self, counts: Sequence[int], layout: Layout) -> int:
        """Trained parameters with ``counts`` units per layer; those outside the chain count in full."""
        total = int(layout.trained.sum())
        for index, layer in enumerate(self.layers):
            if layout[layer.weight].trained:
                total += self._weights(index, counts) - prod(layout[layer.weight].shape)
            for segment in self._per_unit(layer, layout):
                if segment.trained:
                    total -= prod(segment.shape) // layer.units * (layer.units - counts[index])
        return total

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


@dataclass(frozen=True)
class _Step:
    """One operation on the path from input to output, with the shape (batch 2) before and after it."""

    node: fx.Node
    module: nn.Module | None
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def name(self) -> str:
        target = type(self.module) if self.module is not None else self.node.target
        return str(getattr(target, "__name__", target)).lower().replace("_", "")

    def __str__(self) -> str:
        return f"{self.node.target if isinstance(self.node.target, str) else self.name} ({self.node.name})"


class _Recorder(fx.Interpreter):
    """Runs a traced module and keeps the value of every node."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


def _path(module: nn.Module, sample: Tensor) -> list[_Step]:
    """The operations from input to output, each with one tensor input and one tensor user."""
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module).eval())
        recorder = _Recorder(graph)
        with torch.no_grad():
            recorder.run(sample[:1].repeat(2, *[1] * (sample.dim() - 1)))
    except Exception as error:  # tracing runs the user's own forward on stand-ins: anything can come out
        reason = str(error).strip().partition("\n")[0]
        raise UnsupportedModelError(
            f"{type(module).__name__} cannot be traced on a sample of shape {tuple(sample.shape[1:])}: {reason}"
        ) from error
    tensors = {node: value.shape for node, value in recorder.values.items() if isinstance(value, Tensor)}
    modules = dict(graph.named_modules())
    node = next(iter(graph.graph.nodes))
    steps: list[_Step] = []
    while True:
        users = [user for user in node.users if user in tensors or user.op == "output"]
        if len(users) != 1:
            readers = ", ".join(user.name for user in users or node.users)
            raise UnsupportedModelError(
                f"{node.name} is read by {readers or 'nothing'}; in a chain, one operation reads it and gives a tensor"
            )
        (following,) = users
        if following.op == "output":
            return steps
        others = [n.name for n in following.all_input_nodes if n is not node and n.op != "get_attr" and n in tensors]
        parameters = [str(n.target) for n in following.all_input_nodes if isinstance(recorder.values[n], nn.Parameter)]
        if others or parameters:
            raise UnsupportedModelError(
                f"{following.name} also reads {', '.join(others + parameters)}; a chain has one tensor input"
                " and keeps its parameters in nn.Linear, nn.Conv and normalisation modules"
            )
        owner = modules[str(following.target)] if following.op == "call_module" else None
        steps.append(_Step(following, owner, tuple(tensors[node]), tuple(tensors[following])))
        node = following


def _read(module: nn.Module, sample: Tensor) -> tuple[UnitLayer, ...]:
    """The layers along the path. Before the first and after the last one, any operation without weights will do."""
    layers: list[UnitLayer] = []
    named = list(module.named_parameters(remove_duplicate=False))
    uses = Counter(id(parameter) for _, parameter in named)
    shared = {name for name, parameter in named if uses[id(parameter)] > 1}
    used: set[str] = set()
    spread = 1  # values per unit of the last layer in the present tensor of shape (batch, units * spread, ...)
    barrier = ""  # why no further layer may follow
    for step in _path(module, sample):
        if step.module is not None and (step.module._forward_hooks or step.module._forward_pre_hooks):
            raise UnsupportedModelError(
                f"{step} has hooks, which may do anything with its units (torch.nn.utils.weight_norm is such a hook; "
                "torch.nn.utils.parametrizations.weight_norm is none)"
            )
        own = {} if step.module is None else {f"{step.node.target}.{n}": p for n, p in step.module.named_parameters()}
        if not used.isdisjoint(own) or not shared.isdisjoint(own):
            raise UnsupportedModelError(f"{step} shares its weights with another use of them; this is no chain")
        used.update(own)
        if type(step.module) in _LAYERS:
            if layers and barrier:
                raise UnsupportedModelError(barrier)
            layers.append(_layer(step, layers[-1] if layers else None, spread))
            spread, barrier = 1, ""
        elif type(step.module) in _PER_UNIT_MODULES and not barrier:
            layers[-1:] = [_attach(layer, step) for layer in layers[-1:]]
        elif any(parameter.dim() >= 2 for parameter in own.values()):
            raise UnsupportedModelError(f"{step} has weights that are not those of nn.Linear, nn.Conv1d or nn.Conv2d")
        elif step.name in _RESHAPES and step.after == (2, prod(step.before[1:])):
            spread *= prod(step.before[2:])
        elif not _acts_per_unit(step):
            barrier = barrier or _mixes(step)
    if not layers:
        raise UnsupportedModelError(f"{type(module).__name__} has no nn.Linear, nn.Conv1d or nn.Conv2d")
    return tuple(layers)


def _mixes(step: _Step) -> str:
    what = str(step) if step.module is None else f"layer '{step.node.target}' ({type(step.module).__name__})"
    shapes = f"{list(step.before[1:])} -> {list(step.after[1:])} per sample"
    return f"{what} may mix units ({shapes}), so taking a dead unit out could change what the living ones give"


def _acts_per_unit(step: _Step) -> bool:
    pooling = _POOLING.fullmatch(step.name)
    if pooling:  # without the batch or the channel dimension, torch would pool over units
        return len(step.before) == 2 + int(pooling[1])
    if step.name in _RESHAPES:
        return step.before[:2] == step.after[:2]
    if step.name == "mean":  # over all positions
        dims: Any = step.node.kwargs.get("dim", step.node.args[1] if len(step.node.args) > 1 else ())
        each = [dims] if isinstance(dims, int) else list(dims)
        return step.after[:2] == step.before[:2] and all(d % len(step.before) >= 2 for d in each)
    return step.name in _ELEMENTWISE and len(step.node.all_input_nodes) == 1


def _layer(step: _Step, previous: UnitLayer | None, spread: int) -> UnitLayer:
    module = step.module
    assert isinstance(module, _LAYERS)
    if len(step.before) != module.weight.dim():
        raise UnsupportedModelError(
            f"{step} reads shape {step.before[1:]} per sample; it should have {module.weight.dim() - 1} dimensions"
        )
    if isinstance(module, nn.Linear):
        inputs = previous.units if previous else module.in_features
        fan = spread if previous else 1
    elif module.groups != 1:
        raise UnsupportedModelError(f"{step} has groups = {module.groups}; only groups = 1 is supported")
    else:
        inputs, fan = module.in_channels, prod(module.kernel_size)
    name, positions = str(step.node.target), prod(step.after[2:])
    return UnitLayer(
        name=name,
        weight=f"{name}.weight",
        bias=None if module.bias is None else f"{name}.bias",
        attached=(),
        inputs=inputs,
        units=module.weight.shape[0],
        fan=fan,
        convolution=not isinstance(module, nn.Linear),
        positions=positions,
        macs=module.weight.numel() * positions,
    )


def _attach(layer: UnitLayer, step: _Step) -> UnitLayer:
    """Add the per-unit tensors of a normalisation or PReLU; a PReLU with one slope for all has none."""
    module = step.module
    assert module is not None
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return layer
    tensors = [*module.named_parameters(), *((n, b) for n, b in module.named_buffers() if b.is_floating_point())]
    names = tuple(f"{step.node.target}.{name}" for name, _ in tensors)
    return replace(layer, attached=(*layer.attached, *names))
