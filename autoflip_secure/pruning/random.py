"""Random pruning as sparse as the guided one: what guidance has to beat.

Both classes ask the guided pruner how much it would remove, remove as much at random, and rescale like it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.pruning.budget import BudgetMask, require_chain
from autoflip_secure.pruning.threshold import ThresholdMask, close_units


def _uniform(view: PruneView, size: int, *address: int) -> Tensor:
    return torch.rand(size, generator=view.generator(*address)).to(view.weights.device)


class RandomWeights(Pruner):
    """Random weights at the per-tensor sparsity of the threshold mask in round 0; static."""

    kind: Literal["random_weights"] = "random_weights"
    needs_guidance: ClassVar[bool] = True
    like: ThresholdMask = ThresholdMask()

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """As many live weights in every tensor as the guided mask has, at random places, then dead-unit closure."""
        if view.round > 0:
            return view.mask
        guided = self.like.mask(view)
        mask = view.mask.clone()
        for index, segment in enumerate(view.layout.hidden):
            live = int(guided[segment.slice].sum())
            order = _uniform(view, segment.stop - segment.start, index).argsort()
            mask[segment.slice] = False
            mask[segment.start + order[:live]] = True
        return close_units(mask, view)

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """As the guided pruner does it."""
        return self.like.rescale(weights, old, new, view)


class RandomUnits(Pruner):
    """Random units at the counts of the budgeted mask, random weights between them; static."""

    kind: Literal["random_units"] = "random_units"
    needs_guidance: ClassVar[bool] = False
    like: BudgetMask = BudgetMask()

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The budgets filled at random: they depend on T_p and the model alone, so no exploration is needed."""
        if view.round > 0:
            return view.mask
        chain = require_chain(view, self.kind)
        units = [_uniform(view, layer.units, index) for index, layer in enumerate(chain.layers[:-1])]
        return self.like.within_budget(view, chain, units, _uniform(view, view.layout.size, len(chain.layers)))

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """As the guided pruner does it."""
        return self.like.rescale(weights, old, new, view)
