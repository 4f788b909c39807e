"""Magnitude pruning: in every hidden layer the share of the weights with the smallest absolute values goes, once."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView


class Magnitude(Pruner):
    """The smallest initial weights of every hidden layer are pruned before round 1."""

    share: Annotated[float, Field(ge=0, lt=1, description="share of each hidden weight tensor that goes")] = 0.5

    def mask(self, view: PruneView) -> Tensor:
        """The mask (params,): False where a weight is zero and stays zero; unchanged after round 0."""
        if view.round > 0:
            return view.mask
        mask = view.mask.clone()
        for segment in view.layout.hidden:
            order = view.weights[segment.slice].abs().argsort()
            mask[segment.start + order[: int(self.share * len(order))]] = False
        return mask
