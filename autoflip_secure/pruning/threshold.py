r"""The paper's mask: weights whose guidance is below T_p go, then units that lost all their connections (Fig. 5).

.. math:: M = [G \ge T_p] \quad\text{and later}\quad \text{prune } j \text{ if } G(D)_j \min(1, A_j/\bar A) < T_p / 2

Biases, normalisation parameters, the output layer and the first convolution are exempt until their unit dies. Whenever
the mask shrinks, each weight tensor is scaled back to the norm it had: that keeps the pruned network trainable.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.guidance import normalise
from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.interfaces import Guidance, Pruner, PruneView
from autoflip_secure.interfaces.known_attacks import OF_REFINEMENT, Known
from autoflip_secure.models.layout import Layout


def threshold_mask(guidance: Float[Tensor, " params"], layout: Layout, threshold: float) -> Bool[Tensor, " params"]:
    """[G >= T_p] on hidden weights, True elsewhere; before dead-unit closure."""
    return (guidance >= threshold) | ~layout.prunable.to(guidance.device)


def close_units(mask: Bool[Tensor, " params"], view: PruneView) -> Bool[Tensor, " params"]:
    """Dead-unit closure where the model's units are known; the mask itself where they are not."""
    return mask if view.units is None else view.units.close(mask, view.layout)


def keep_energy(weights: Tensor, old: Tensor, new: Tensor, layout: Layout) -> Float[Tensor, " params"]:
    """w_b <- (w_b M_new) ||w_b M_old|| / ||w_b M_new|| for every weight tensor b whose mask shrank."""
    scaled = weights * new
    for segment in layout:
        if segment.kind == "weight" and not torch.equal(old[segment.slice], new[segment.slice]):
            before = (weights[segment.slice] * old[segment.slice]).norm()
            scaled[segment.slice] *= before / scaled[segment.slice].norm().clamp_min(TINY)
    return scaled


def refinement(guidance: Guidance, layout: Layout, mask: Tensor, normalisation: str) -> Float[Tensor, " params"]:
    """G(D)_j · min(1, A_j / mean A), the mean over live hidden weights: what later pruning compares with T_p / 2."""
    live = mask & layout.prunable.to(mask.device)
    mean = guidance.parameter_agreement[live].mean().clamp_min(TINY)
    return normalise(guidance.energy, layout, normalisation) * (guidance.parameter_agreement / mean).clamp(max=1)


def grown(mask: Bool[Tensor, " params"], view: PruneView, share: float) -> Bool[Tensor, " params"]:
    """``mask`` with ``share`` of what was just cut given back, per tensor, to weights that were dead before.

    The ones with the largest energy D_0 return, at weight zero and between live units only; dead units stay dead.
    """
    if share == 0 or view.exploration is None:
        return mask
    free = ~view.mask
    if view.units is not None:
        free = free & view.units.keep_units(view.units.live_units(mask, view.layout), view.layout)
    larger = mask.clone()
    for segment in view.layout.hidden:
        count = int(share * int((view.mask & ~mask)[segment.slice].sum()))
        places = segment.start + free[segment.slice].nonzero().squeeze(1)
        best = view.exploration.energy[places].argsort(descending=True, stable=True)[:count]
        larger[places[best]] = True
    return larger


class ThresholdMask(Pruner):
    """The paper's hybrid mask: guidance below T_p goes, refined in the first half by parameter agreement."""

    kind: Literal["threshold"] = "threshold"
    source: ClassVar[str] = "AutoFLIP paper, Fig. 5: M = [G >= T_p]"
    needs_guidance: ClassVar[bool] = True
    known_by: ClassVar[Known] = OF_REFINEMENT
    draws_again: ClassVar[bool] = True
    threshold: Annotated[float, Field(ge=0, le=1, description="T_p: guidance below it is pruned")] = 0.3
    refine_every: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=5, description="rounds between refinements by agreement; null = the initial mask stays (static)"
    )
    refine_until: Annotated[float, Field(ge=0, le=1, description="share of the rounds in which it is refined")] = 0.5
    refine_factor: Annotated[float, Field(ge=0, le=1, description="later cuts are made at this share of T_p")] = 0.5
    growth: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="share of the weights cut in a refinement that goes back to weights pruned long ago; 0 = no growth",
    )
    rescaling: Literal["energy", "none"] = Field(
        default="energy", description="rescale tensors to their norm before pruning"
    )

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The initial mask after an exploration, a refinement when one is due, else the mask as it is."""
        assert view.guidance is not None
        if view.fresh:
            guidance = normalise(view.guidance.energy, view.layout, view.normalisation)
            return close_units(view.mask & threshold_mask(guidance, view.layout, self.threshold), view)
        due = self.refine_every is not None and view.round % self.refine_every == 0
        if not due or view.round > self.refine_until * view.rounds:
            return view.mask
        support = refinement(view.guidance, view.layout, view.mask, view.normalisation)
        cut = threshold_mask(support, view.layout, self.refine_factor * self.threshold)
        return grown(close_units(view.mask & cut, view), view, self.growth)

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """Energy-preserving: each tensor keeps its norm."""
        return keep_energy(weights, old, new, view.layout) if self.rescaling == "energy" else weights * new
