"""Random pruning as sparse as the guided one: what guidance has to beat.

Both classes ask the guided pruner how much it would remove, remove as much at random, and rescale like it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.interfaces.known_attacks import Known
from autoflip_secure.pruning.budget import BudgetMask, require_units
from autoflip_secure.pruning.threshold import ThresholdMask, close_units, keep_energy


def _uniform(view: PruneView, size: int, *address: int) -> Tensor:
    return torch.rand(size, generator=view.generator(*address)).to(view.weights.device)


class RandomWeights(Pruner):
    """Random weights, the same number in every tensor as the threshold mask keeps in round 0; static."""

    kind: Literal["random_weights"] = "random_weights"
    source: ClassVar[str] = "control for threshold: equally sparse, at random"
    needs_guidance: ClassVar[bool] = True
    draws_again: ClassVar[bool] = True
    threshold: Annotated[float, Field(ge=0, le=1, description="T_p of the mask whose sparsity is copied")] = 0.3

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """Random places first; where closure then took more than wanted, random places between live units fill up."""
        if not view.fresh:
            return view.mask
        guided = ThresholdMask(threshold=self.threshold).mask(view)
        order = _uniform(view, view.layout.size)
        mask = close_units(self._smallest(view, guided, order, view.mask), view)
        if view.units is not None:
            between = view.units.keep_units(view.units.live_units(mask, view.layout), view.layout)
            mask = mask | self._smallest(view, guided, order - 2 * mask.float(), between)
        return mask

    @staticmethod
    def _smallest(view: PruneView, guided: Tensor, order: Tensor, allowed: Tensor) -> Bool[Tensor, " params"]:
        """``allowed``, but in each hidden tensor only the smallest of ``order``, as many as ``guided`` keeps."""
        mask = allowed.clone()
        for segment in view.layout.hidden:
            places = segment.start + allowed[segment.slice].nonzero().squeeze(1)
            kept = places[order[places].argsort()[: int(guided[segment.slice].sum())]]
            mask[segment.slice] = False
            mask[kept] = True
        return mask

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """Energy-preserving, as the guided pruner does it."""
        return keep_energy(weights, old, new, view.layout)


class RandomUnits(BudgetMask):
    """Random units at the counts of the budgeted mask, random weights between them; static."""

    kind: Literal["random_units"] = "random_units"  # type: ignore[assignment]
    source: ClassVar[str] = "control for budget: equally sparse, at random"
    needs_guidance: ClassVar[bool] = False
    known_by: ClassVar[Known] = ()

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The budgets filled at random: they depend on T_p and the model alone, so no exploration is needed."""
        if not view.fresh:
            return view.mask
        units = require_units(view, self.kind)
        scores = [_uniform(view, group.units, index) for index, group in enumerate(units.groups[:-1])]
        return self.within_budget(view, units, scores, _uniform(view, view.layout.size, len(units.groups)))
