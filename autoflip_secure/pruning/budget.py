r"""The budgeted hybrid mask (``autoflip_plus``, ours): T_p sets budgets, whole units go first, then weights.

1. multiply-adds: :math:`C = (1-T_p)^{2.1}` of the dense model's; :math:`\kappa` is the largest width factor that
   needs at most C.
2. units: :math:`x(u) = \mathrm{mean}_k (in_k(u)\, out_k(u))^{1/4}`, where in and out are mean energies e_k of the
   unit's incoming and outgoing weights. The ones nearest to the median of their group are kept: idle units and
   dominating ones go.
3. parameters: :math:`V = (1-T_p)^{3.1}` of the dense model's; inside the kept block of each hidden fully connected
   tensor the share delta with the largest D_0 is kept. Filters stay whole.
4. every output unit is scaled back to its norm, by at most 5. The mask is static from round 0.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.linear_exploration import normalised_energy
from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.interfaces import Exploration, Pruner, PruneView
from autoflip_secure.interfaces.known_attacks import OF_LANDSCAPE, Known
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import Units


def require_units(view: PruneView, kind: str) -> Units:
    """The model's units, or an error that offers the pruner that does without."""
    if view.units is None:
        raise UnsupportedModelError(
            f"pruner {kind!r} removes whole units and this model's units are unknown; use pruner kind 'threshold', "
            "or write the model as a chain of layers"
        )
    return view.units


def kept_counts(units: Units, layout: Layout, threshold: float, exponent: float) -> list[int]:
    """Units kept in each group (outputs all kept) so that the compacted model needs at most (1-T_p)^exponent of the
    dense multiply-adds; at least 2 a group.

    Groups whose units feed on or into frozen weights keep all, and what no choice can change is left out of the budget.
    """
    widths = [group.units for group in units.groups]
    free = units.removable(layout)
    constant = units.fixed_macs(layout)
    budget = (1 - threshold) ** exponent * (units.scaled_macs(widths) - constant)
    for step in range(401):
        kappa = 1 - 0.0025 * step
        hidden = zip(widths, free, strict=False)
        counts = [min(n, max(2, round(kappa * n))) if may else n for n, may in hidden] + [widths[-1]]
        if units.scaled_macs(counts) - constant <= budget:
            break
    return counts


def unit_guidance(units: Units, layout: Layout, exploration: Exploration) -> list[Float[Tensor, " units"]]:
    """G_unit = min(x/med, med/x) per hidden group, from the kept explorers' energies; 1 = typical."""
    device = exploration.deviations.device
    totals = [torch.zeros(group.units, device=device) for group in units.groups[:-1]]
    kept = exploration.kept.nonzero().squeeze(1)
    for explorer in kept.tolist():  # one at a time: memory, with many explorers of a large model
        energies = units.mean_weights(normalised_energy(exploration.deviations[explorer : explorer + 1]), layout)
        for total, (incoming, outgoing) in zip(totals, energies, strict=True):
            total.add_((incoming * outgoing).pow(0.25)[0])
    guidance = []
    for total in totals:
        x = total / max(len(kept), 1) + 1e-9
        middle = x.median()  # the lower one
        guidance.append(torch.minimum(x / middle, middle / x))
    return guidance


def weight_share(block: Bool[Tensor, " params"], layout: Layout, units: Units, parameters: float) -> float:
    """delta: the share of hidden fully connected weights between kept units that the parameter budget leaves."""
    choosable = sum(int(block[segment.slice].sum()) for segment in units.fully_connected(layout))
    fixed = int((block & layout.trained.to(block.device)).sum()) - choosable
    return min(1.0, max(0.25, (parameters - fixed) / max(choosable, 1)))


def largest_share(
    block: Bool[Tensor, " params"], score: Float[Tensor, " params"], share: float, layout: Layout, units: Units
) -> Bool[Tensor, " params"]:
    """``block`` with only the ``share`` of the largest scores left in each hidden fully connected tensor."""
    mask = block.clone()
    for segment in units.fully_connected(layout):
        inside = block[segment.slice].nonzero().squeeze(1)
        keep = score[segment.slice][inside].argsort(descending=True, stable=True)[: round(share * len(inside))]
        mask[segment.slice] = False
        mask[segment.start + inside[keep]] = True
    return mask


def keep_unit_norms(
    weights: Tensor, old: Tensor, new: Tensor, layout: Layout, limit: float
) -> Float[Tensor, " params"]:
    """w_o <- w_o M_o min(limit, ||w_o|| / ||w_o M_o||) for every output unit o of every weight tensor."""
    scaled = weights * new
    for segment in layout:
        if segment.kind == "weight" and not torch.equal(old[segment.slice], new[segment.slice]):
            before = (weights * old)[segment.slice].view(segment.shape[0], -1)
            after = scaled[segment.slice].view(segment.shape[0], -1)
            factor = before.norm(dim=1) / after.norm(dim=1).clamp_min(TINY)
            scaled[segment.slice] = (after * factor.clamp(max=limit)[:, None]).reshape(-1)
    return scaled


class BudgetMask(Pruner):
    """Budgeted hybrid mask: T_p sets compute and size of the compacted model; whole units go first, then weights."""

    kind: Literal["budget"] = "budget"
    source: ClassVar[str] = "this project: budgets (1 - T_p)^2.1 and (1 - T_p)^3.1; docs/algorithm.md"
    needs_guidance: ClassVar[bool] = True
    known_by: ClassVar[Known] = OF_LANDSCAPE
    draws_again: ClassVar[bool] = True
    needs_explorers: ClassVar[bool] = True
    needs_units: ClassVar[bool] = True
    threshold: Annotated[float, Field(ge=0, lt=1, description="T_p: sets both budgets")] = 0.3
    compute_exponent: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=2.1, description="multiply-adds kept: (1-T_p)^this"
    )
    size_exponent: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=3.1, description="parameters kept: (1-T_p)^this"
    )
    largest_scale: Annotated[float, Field(ge=1, le=1e6, description="units are scaled up by at most this")] = 5.0

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The mask after an exploration; the same from then on."""
        if not view.fresh:
            return view.mask
        assert view.exploration is not None
        units = require_units(view, self.kind)
        scores = unit_guidance(units, view.layout, view.exploration)
        return self.within_budget(view, units, scores, view.exploration.energy)

    def within_budget(self, view: PruneView, units: Units, scores: list[Tensor], weights: Tensor) -> Tensor:
        """The budgets filled with the best units by ``scores`` (a vector a hidden group), then the best ``weights``."""
        counts = kept_counts(units, view.layout, self.threshold, self.compute_exponent)
        kept = []
        for score, count in zip(scores, counts[:-1], strict=True):
            chosen = torch.zeros_like(score, dtype=torch.bool)
            chosen[score.argsort(descending=True, stable=True)[:count]] = True
            kept.append(chosen)
        kept.append(torch.ones(counts[-1], dtype=torch.bool, device=view.mask.device))
        block = view.mask & units.keep_units(kept, view.layout)
        parameters = (1 - self.threshold) ** self.size_exponent * float(view.layout.trained.sum())
        share = weight_share(block, view.layout, units, parameters)
        return units.close(largest_share(block, weights, share, view.layout, units), view.layout)

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """Each output unit keeps its norm, scaled by at most ``largest_scale``."""
        return keep_unit_norms(weights, old, new, view.layout, self.largest_scale)
