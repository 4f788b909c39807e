r"""A random static mask for all, dense by ERK (Evci et al. 2020): what every method at one density has to beat.

Each hidden tensor l keeps round(d_l · n_l) weights, drawn before round 1, with the densities d_l of
:func:`.own_erk.erk`. It is where ``fedtiny`` and ``rigl`` begin: at equal density, the difference to them is what
moving the mask is worth. Weights are not rescaled. Evidence: ERK is read in RigL's public code; as a control, ours.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.pruning.hidden_cuts import best_by_tensor, erk_counts

Density = Annotated[float, Field(gt=0, le=1, description="live hidden weights / hidden weights")]


def random_erk(view: PruneView, density: float) -> Bool[Tensor, " params"]:
    """Drawn at (PRUNING, number of the hidden tensor), on the CPU."""
    scores = torch.zeros_like(view.weights)
    for number, segment in enumerate(view.layout.hidden):
        size = segment.stop - segment.start
        order = torch.randperm(size, generator=view.generator(number))
        scores[segment.slice] = -order.argsort().to(scores)
    return best_by_tensor(scores, view.mask, view.layout, erk_counts(view.layout, density))


class RandomErk(Pruner):
    """Random weights, dense by ERK, the same for all clients and static: a control at a given density."""

    kind: Literal["erk"] = "erk"
    source: ClassVar[str] = "Evci et al. 2020 (ERK); control for masks of the same density"
    density: Density = 0.3

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """Drawn in round 0; the same from then on."""
        return view.mask if view.round > 0 else random_erk(view, self.density)
