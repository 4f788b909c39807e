r"""Whether the mask keeps what a trigger needs: its neurons, and the weights that read it, in the first prunable layer.

With :math:`z_u(x)` the output of unit u of that layer in the dense initial model, over test inputs x of other classes
than the target (and over positions, for convolutions):

.. math::
    a_u = \operatorname{mean}_x |z_u(T(x)) - z_u(x)|, \qquad
    \text{kept} = \frac{\sum_{u \in N} \sum_i m_{ui}}{|N| \cdot \text{inputs}}, \qquad
    \text{kept reading} = \frac{\sum_u \sum_{i \in R} m_{ui}}{\text{units} \cdot |R|}

N are the trigger's neurons: the tenth of the units (at least one) with the largest :math:`a_u`. R are the inputs of the
layer that the trigger changes in some x, so of a dense layer on the data the trigger's own places. :math:`m` is the
final mask. Both stand beside the share of all weights of the layer that are alive: above it, the mask favours the
trigger. The initial model is the one that is whole in every run; in the final one a pruned neuron reacts to nothing.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from autoflip_secure.federation.backdoor_test import triggered_test
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import BackdoorAttack
from autoflip_secure.models.layout import Segment
from autoflip_secure.records.backdoor import TriggerSurvival
from autoflip_secure.training.base import precise
from autoflip_secure.training.evaluation import SAMPLES, drawing

NEURONS = 0.1
"""Share of the units that are called the trigger's."""
_MOST = 1024  # test inputs
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def trigger_survival(cell: Cell, attack: BackdoorAttack, mask: Bool[Tensor, " params"]) -> TriggerSurvival | None:
    """None: nothing of the first prunable layer is pruned, there is none, or it is no Linear or convolution."""
    problem = cell.problem
    segment = next(iter(problem.layout.hidden), None)
    if segment is None or bool(mask[segment.slice].all()):
        return None
    module = copy.deepcopy(problem.module).to(problem.x_test.device).eval()
    layer = dict(module.named_modules()).get(segment.layer)
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) or layer.weight.shape != segment.shape:
        return None
    problem.layout.load(module, problem.initial.to(problem.x_test.device))
    clean, stamped = (x[:_MOST] for x in triggered_test(cell, attack))
    reactions, changed = _reactions(module, layer, clean, stamped)
    if reactions is None or changed is None:
        return None
    return _kept(segment, mask, reactions, changed, grouped=getattr(layer, "groups", 1) > 1)


def _kept(segment: Segment, mask: Tensor, reactions: Tensor, changed: Tensor, *, grouped: bool) -> TriggerSurvival:
    alive = mask[segment.slice].view(segment.shape).double().cpu()
    count = max(1, round(NEURONS * len(reactions)))
    neurons = reactions.cpu().topk(count).indices
    reading = None
    if not grouped and not bool(changed.all()) and bool(changed.any()):
        reading = float(alive[:, changed.cpu()].mean())
    return TriggerSurvival(
        layer=segment.layer,
        neurons=count,
        kept=float(alive[neurons].mean()),
        kept_reading=reading,
        kept_overall=float(alive.mean()),
    )


def _reactions(module: nn.Module, layer: nn.Module, clean: Tensor, stamped: Tensor) -> tuple[Tensor | None, ...]:
    """How much each unit's output differs on average, and which inputs of the layer do; None: it is not called."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = layer.register_forward_hook(lambda _, given, out: seen.append((given[0].clone(), out.clone())))
    axis = 1 if isinstance(layer, _CONVOLUTIONS) else -1
    total, changed = None, None
    try:
        with torch.no_grad(), precise(clean.device):
            for pair in zip(torch.split(clean, SAMPLES), torch.split(stamped, SAMPLES), strict=True):
                seen.clear()
                for inputs in pair:
                    with drawing(inputs):
                        module(inputs)
                if len(seen) != 2:  # not called, or several times
                    return None, None
                (before, one), (after, other) = seen
                moved = _by_unit((other - one).abs(), axis).double().sum(1)
                total = moved if total is None else total + moved
                differs = _by_unit(after != before, axis).any(1)
                changed = differs if changed is None else changed | differs
    finally:
        handle.remove()
    return total, changed


def _by_unit(values: Tensor, axis: int) -> Tensor:
    """(units, everything else)."""
    return values.movedim(axis, 0).flatten(1)
