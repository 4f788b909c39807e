"""One cut by size: the weights of largest |w| stay, once; a control for importances and timetables of one density.

``scope`` says how the tensors share the count: over all hidden weights together (as ``snip`` and ``fedsparsify``), the
same share of each, or by ERK (as ``erk``, ``fedtiny`` and ``rigl``). The cut is made after the share ``at`` of the
rounds, on the global model: 0 is before training, at the initial weights. Weights are not rescaled, and nothing is
uploaded for it. Evidence: a textbook control, no one's algorithm.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.pruning.erk import Density
from autoflip_secure.pruning.hidden_cuts import Scope, best_of


class Magnitude(Pruner):
    """The smallest hidden weights are cut once: a control at a given density."""

    kind: Literal["magnitude"] = "magnitude"
    source: ClassVar[str] = "control for masks of the same density: largest |w|, one cut"
    density: Density = 0.3
    at: Annotated[
        float, Field(ge=0, le=1, description="share of the rounds after which it is cut; 0 = the initial weights")
    ] = 0.0
    scope: Scope = Field(
        default="global",
        description="largest over all hidden tensors, the same share of each, or a share of each by ERK",
    )

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """Cut in its round; the same before and after."""
        if view.round != int(self.at * view.rounds):
            return view.mask
        return best_of(view.weights.abs(), view.mask, view.layout, self.density, self.scope)
