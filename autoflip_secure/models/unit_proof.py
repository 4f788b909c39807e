"""Units are taken out of a model with random weights, and its outputs compared: what is no unit is found out.

The library that couples channels takes every operation that it does not know for one that acts on each channel alone.
A softmax over channels, a reshape to a fixed width, a sum with the model's inputs: whatever depends on more shows in
the outputs, since every weight, bias and running statistic is drawn at random, so that nothing is zero by chance.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_graph import UnitGraph
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose, generator

_TRIALS = 2
CHANGES = "without some of them the outputs change, or the forward pass fails"


def failures(module: nn.Module, graph: UnitGraph, inputs: Tensor) -> dict[int, str]:
    """Hidden groups whose units cannot be taken out, with the reason: {} when all can, in any numbers.

    Args:
        module: left as it is.
        graph: of ``module``.
        inputs: a batch of two.

    Raises:
        UnsupportedModelError: a forward pass with random weights fails, or gives numbers that are not finite.
    """
    net = copy.deepcopy(module).cpu().eval()
    for parameter in net.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)  # frozen or not, weights are drawn and masked here
    every = list(range(len(graph.hidden)))
    exact = _runs(copy.deepcopy(net).double(), inputs.double() if inputs.is_floating_point() else inputs)
    if exact:
        net = net.double()
        inputs = inputs.double() if inputs.is_floating_point() else inputs
    graph = replace(graph, input_dtype=inputs.dtype)
    layout = Layout.of(net)
    tolerance = 1e-9 if exact else 1e-4
    if all(_equal(net, graph, layout, inputs, every, trial, tolerance) for trial in range(_TRIALS)):
        return {}
    wrong = [
        index
        for index in every
        if not all(_equal(net, graph, layout, inputs, [index], trial, tolerance) for trial in range(_TRIALS))
    ]
    return dict.fromkeys(wrong or every, CHANGES)


def _runs(net: nn.Module, inputs: Tensor) -> bool:
    try:
        with torch.no_grad(), drawing_at(0, Purpose.FORWARD):
            return bool(net(inputs).dtype == torch.float64)
    except Exception:  # the user's own forward, in another precision than it may be made for
        return False


def _equal(
    net: nn.Module, graph: UnitGraph, layout: Layout, inputs: Tensor, groups: list[int], trial: int, tolerance: float
) -> bool:
    """Whether the model without random units of these groups gives what it gives with them masked."""
    draw = generator(0, Purpose.FORWARD, 1, trial)
    vector = _random_weights(net, layout, draw)
    kept = []
    for index, group in enumerate(graph.groups):
        share = 0.3 + 0.5 * float(torch.rand((), generator=draw))
        flags = torch.rand(group.units, generator=draw) < share
        flags[int(torch.randint(group.units, (), generator=draw))] = True
        kept.append(flags if index in groups else torch.ones_like(flags))
    mask = graph.keep_units(kept, layout)
    masked = copy.deepcopy(net)
    layout.load(masked, vector * mask)
    if inputs.is_floating_point():
        inputs = torch.randn(inputs.shape, generator=draw).to(inputs.dtype)
    with torch.no_grad(), drawing_at(0, Purpose.FORWARD):
        try:
            wanted = masked(inputs)
        except Exception as error:  # the user's own forward, with weights it may not be made for
            reason = f"it fails: {error}"
        else:
            whole = isinstance(wanted, Tensor) and bool(wanted.isfinite().all())
            reason = "" if whole else "it gives no tensor of finite numbers"
        if reason:
            raise UnsupportedModelError(
                f"units of {type(net).__name__} cannot be tried out with weights that are drawn at random: {reason}"
            )
        try:
            given = compact(net, graph, layout, vector, mask).eval()(inputs)
        except Exception:  # the same, with fewer channels
            return False
    scale = float(wanted.abs().max().clamp(min=1e-3))
    return given.shape == wanted.shape and bool(torch.allclose(given, wanted, rtol=0, atol=tolerance * scale))


def _random_weights(net: nn.Module, layout: Layout, draw: torch.Generator) -> Tensor:
    """Weights that keep signals at their size, positive scales and variances, small biases; nothing zero."""
    vector = layout.vector(net)
    norms = {name for name, layer in net.named_modules() if hasattr(layer, "running_var")}
    for segment in layout:
        values = torch.randn(segment.stop - segment.start, generator=draw)
        if segment.kind == "weight":
            fan = max(1, (segment.stop - segment.start) // segment.shape[0])
            vector[segment.slice] = values * (2 / fan) ** 0.5
        elif (segment.kind == "norm" and segment.name.endswith("weight")) or segment.name.endswith("running_var"):
            vector[segment.slice] = 0.5 + values.abs()
        elif segment.kind != "buffer" or segment.layer in norms:
            vector[segment.slice] = 0.3 * values
    return vector
