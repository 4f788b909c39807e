r"""LotteryFL (Li et al. 2021): each client looks for its own lottery ticket, and rewinds to the initial weights.

.. math:: \text{if } \mathrm{acc}_k(w \odot m_k) \ge a \text{ and } \mathrm{density}(m_k) > d:\quad
          m_k \leftarrow m_k \text{ without the share } r \text{ of smallest } |w_j|,\; w_k \leftarrow w_0 \odot m_k,
          \quad\text{else}\quad w_k \leftarrow w \odot m_k

The share is cut in each hidden tensor, of its live weights; density is over all hidden weights. The authors use a
density of 0.5 for CIFAR-10 and 0.1 for MNIST, and an accuracy of 0.7 for human activities. Two readings are ours:
their code measures the accuracy on local *test* data, here it is measured on training rows, so that the held-out ones
stay unseen; and output layer, first convolution and biases are not pruned, as everywhere here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import ClientPruneView, OwnMask, Pruner, PruneView
from autoflip_secure.models.layout import Layout


def without_smallest(
    weights: Tensor, mask: Bool[Tensor, " params"], layout: Layout, share: float
) -> Bool[Tensor, " params"]:
    """``mask`` without round(share · live) of the live weights of each hidden tensor: those smallest in size.

    Of equal sizes the first goes. Python's ``round``: halves go to the even number.
    """
    smaller = mask.clone()
    for segment in layout.hidden:
        places = segment.start + mask[segment.slice].nonzero().squeeze(1)
        order = weights[places].abs().argsort(stable=True)
        smaller[places[order[: round(share * len(places))]]] = False
    return smaller


class LotteryTickets(Pruner):
    """LotteryFL: each client cuts its own mask once it is accurate, and rewinds to the initial weights."""

    kind: Literal["lottery"] = "lottery"
    source: ClassVar[str] = "Li et al. 2021 (LotteryFL): cut a share of the smallest |w|, rewind to w_0"
    own: ClassVar[bool] = True
    needs_accuracy: ClassVar[bool] = True
    accuracy: Annotated[
        float, Field(ge=0, le=1, description="on its own training rows, from which on a client cuts its mask")
    ] = 0.2
    target_density: Annotated[
        float, Field(ge=0, lt=1, description="share of hidden weights at which a client stops cutting")
    ] = 0.5
    cut: Annotated[float, Field(gt=0, lt=1, description="share of each tensor's live weights that one cut removes")] = (
        0.2
    )

    def mask(self, view: PruneView) -> Tensor:
        """The mask that all share stays as it is."""
        return view.mask

    def client_mask(self, view: ClientPruneView) -> OwnMask:
        """Cut and rewind when the client is accurate and not sparse enough, else go on from the global weights."""
        assert view.accuracy is not None
        live = view.mask[view.layout.prunable.to(view.mask.device)]
        if len(live) == 0 or view.accuracy < self.accuracy or float(live.double().mean()) <= self.target_density:
            return OwnMask(view.mask, view.weights)
        return OwnMask(without_smallest(view.weights, view.mask, view.layout, self.cut), view.initial)
