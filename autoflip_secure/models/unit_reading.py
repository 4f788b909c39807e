"""From coupled channels to a graph of units that was tried out: units are taken out, and outputs compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_graph import Axis, UnitGraph, WeightUnits
from autoflip_secure.models.unit_proof import failures
from autoflip_secure.models.unit_tracing import LAYERS, OUTPUTS, Side, Traced, first_reasons, members, trace
from autoflip_secure.models.units import UnitGroup

Slot = tuple[str, Side, int]


@dataclass
class _Group:
    """Components that take part in the same places, as often; in the order of the forward pass."""

    name: str
    components: list[int]


def read_graph(module: nn.Module, sample: Tensor) -> UnitGraph:
    """As :meth:`~.unit_graph.UnitGraph.of`."""
    kind = type(module).__name__
    named = list(module.named_parameters(remove_duplicate=False))
    uses = Counter(id(parameter) for _, parameter in named)
    shared = [name for name, parameter in named if uses[id(parameter)] > 1]
    if shared:
        raise UnsupportedModelError(f"{' and '.join(shared[:2])} of {kind} are one tensor; their units are not known")
    inputs = sample[:1].cpu().repeat(2, *[1] * (sample.dim() - 1))
    traced, layout = trace(module, inputs), Layout.of(module)
    groups, reasons = _groups(traced, layout)
    reasons += _unlike(module, layout)
    graph = _graph(traced, layout, groups, reasons, sample)
    while groups:
        wrong = failures(module, graph, inputs)
        if not wrong:
            return graph
        reasons += [(groups[index].name, reason) for index, reason in wrong.items()]
        groups = [group for index, group in enumerate(groups) if index not in wrong]
        graph = _graph(traced, layout, groups, reasons, sample)
    why = "; ".join(first_reasons(reasons)) or "no layer makes units that another one reads"
    raise UnsupportedModelError(f"no unit of {kind} can be taken out: {why}")


def _unlike(module: nn.Module, layout: Layout) -> list[tuple[str, str]]:
    """(layer, reason) of those with weights of another kind, say a recurrent one."""
    owners = dict(module.named_modules())
    names = dict.fromkeys(segment.layer for segment in layout if segment.kind == "weight")
    return [
        (name or "the model", f"{type(owners[name]).__name__} is neither a fully connected layer nor a convolution")
        for name in names
        if not isinstance(owners[name], LAYERS)
    ]


def _groups(traced: Traced, layout: Layout) -> tuple[list[_Group], list[tuple[str, str]]]:
    """Groups of units that may go, and (layer, reason) of those that stay."""
    together: dict[tuple[tuple[str, Side, int], ...], _Group] = {}
    reasons: list[tuple[str, str]] = []
    known = {segment.name for segment in layout}
    last = {segment.layer for segment in layout if segment.output}
    for component, slots in members(traced).items():
        makers, readers = (
            [name for name, at, _ in slots if at == side and _reads_all(traced.modules[name])] for side in ("out", "in")
        )
        if not makers or (not readers and not last.isdisjoint(makers)):
            continue  # the model's inputs, its outputs
        name = makers[0]
        reason = traced.reasons.get(component, "") or _unnamed(traced, slots, known)
        if not reason and not readers:
            reason = "no layer reads them that could be followed"
        if reason:
            reasons += [(name, reason)] * (reason != OUTPUTS)
            continue
        counts = Counter((layer, side) for layer, side, _ in slots)
        places = tuple(sorted((layer, side, count) for (layer, side), count in counts.items()))
        together.setdefault(places, _Group(name, [])).components.append(component)
    return list(together.values()), reasons


def _reads_all(layer: nn.Module) -> bool:
    """Whether each row of a layer reads every channel, so that its rows and columns belong to different units."""
    return isinstance(layer, LAYERS) and getattr(layer, "groups", 1) == 1


def _unnamed(traced: Traced, slots: list[Slot], known: set[str]) -> str:
    """Why tensors of the layers that take part cannot be cut; "": they can."""
    for name in dict.fromkeys(slot[0] for slot in slots):
        layer = traced.modules[name]
        tensors = [f"{name}.{tensor}" for tensor, _ in layer.named_parameters()]
        if isinstance(layer, nn.GroupNorm) and not layer.affine:
            return f"{name!r} is a GroupNorm without parameters (affine=False)"
        plain = {f"{name}.weight"} if isinstance(layer, LAYERS) else set()
        if not {*tensors, *plain} <= known or any("parametrizations" in tensor for tensor in tensors):
            return f"layer {name!r} has a weight that is computed from others"
    return ""


def _graph(
    traced: Traced, layout: Layout, groups: list[_Group], reasons: list[tuple[str, str]], sample: Tensor
) -> UnitGraph:
    """The graph in which exactly these groups are units."""
    number = {component: index for index, component in enumerate(c for group in groups for c in group.components)}
    axes: dict[tuple[str, Side], Axis] = {
        place: Axis(tuple(number.get(component, -1) for component in components))
        for place, components in traced.slots.items()
    }
    weights: list[WeightUnits] = []
    own: list[tuple[str, Axis]] = []
    segments = defaultdict(list)
    for segment in layout:
        segments[segment.layer].append(segment)
    for name, layer in traced.modules.items():
        rows = axes[name, "out"]
        for segment in segments[name]:
            if isinstance(layer, LAYERS) and segment.name == f"{name}.weight":
                tied = getattr(layer, "groups", 1) > 1
                columns = Axis((-1,) * segment.shape[1]) if tied else axes[name, "in"]
                weights.append(
                    WeightUnits(
                        segment.name, rows, columns, prod(segment.shape[2:]), traced.positions[name],
                        isinstance(layer, nn.Linear), tied,
                    )
                )  # fmt: skip
            elif segment.shape and segment.shape[0] == len(rows.units):
                own.append((segment.name, rows))
    last = next((s for s in layout if s.output and s.kind == "weight"), None)
    outputs = UnitGroup(traced.outputs or (last.layer if last else "outputs"), last.shape[0] if last else 1)
    return UnitGraph(
        hidden=tuple(UnitGroup(group.name, len(group.components)) for group in groups),
        outputs=outputs,
        weights=tuple(weights),
        own=tuple(own),
        kept_whole=first_reasons(reasons),
        input_shape=tuple(sample.shape[1:]),
        input_dtype=sample.dtype,
    )
