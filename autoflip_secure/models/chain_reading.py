"""A model's layers as a chain of units, proved by tracing it on a sample."""

from __future__ import annotations

import copy
import re
from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.unit_layers import UnitLayer

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
class Step:
    """One operation on the path from input to output, with the shape (batch 2) before and after it."""

    node: fx.Node
    module: nn.Module | None
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def name(self) -> str:
        """In lower case without underscores, so that nn.ReLU, F.relu and x.relu_() are one name."""
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


def operations(module: nn.Module, sample: Tensor, *, training: bool = False) -> list[Step]:
    """The operations from input to output, each with one tensor input and one tensor user.

    Args:
        module: left as it is.
        sample: one or more inputs; the first is run.
        training: in training mode; otherwise in evaluation mode.

    Raises:
        UnsupportedModelError: it cannot be traced, or branches.
    """
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module).train(training))
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
    steps: list[Step] = []
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
        steps.append(Step(following, owner, tuple(tensors[node]), tuple(tensors[following])))
        node = following


def read_layers(module: nn.Module, sample: Tensor) -> tuple[UnitLayer, ...]:
    """The layers along the path. Before the first and after the last one, any operation without weights will do."""
    layers: list[UnitLayer] = []
    named = list(module.named_parameters(remove_duplicate=False))
    uses = Counter(id(parameter) for _, parameter in named)
    shared = {name for name, parameter in named if uses[id(parameter)] > 1}
    used: set[str] = set()
    spread = 1  # values per unit of the last layer in the present tensor of shape (batch, units * spread, ...)
    barrier = ""  # why no further layer may follow
    for step in operations(module, sample):
        if step.module is not None and (step.module._forward_hooks or step.module._forward_pre_hooks):
            raise UnsupportedModelError(
                f"{step} has hooks, which may do anything with its units (torch.nn.utils.weight_norm is such a hook; "
                "torch.nn.utils.parametrizations.weight_norm is not)"
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


def _mixes(step: Step) -> str:
    what = str(step) if step.module is None else f"layer '{step.node.target}' ({type(step.module).__name__})"
    shapes = f"{list(step.before[1:])} -> {list(step.after[1:])} per sample"
    return f"{what} may mix units ({shapes}), so taking a dead unit out could change what the living ones give"


def _acts_per_unit(step: Step) -> bool:
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


def _layer(step: Step, previous: UnitLayer | None, spread: int) -> UnitLayer:
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


def _attach(layer: UnitLayer, step: Step) -> UnitLayer:
    """Add the per-unit tensors of a normalisation or PReLU; a PReLU with one slope for all has none."""
    module = step.module
    assert module is not None
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return layer
    tensors = [*module.named_parameters(), *((n, b) for n, b in module.named_buffers() if b.is_floating_point())]
    names = tuple(f"{step.node.target}.{name}" for name, _ in tensors)
    return replace(layer, attached=(*layer.attached, *names))
