r"""Sub-FedAvg (Vahidian et al. 2021), unstructured: a client prunes what is small twice in one local training.

.. math::
    m' = m \odot [|w_1| \ge P_q(|w_1|)], \qquad m'' = m \odot [|w_E| \ge P_q(|w_E|)], \qquad
    m \leftarrow m'' \text{ if } \mathrm{hamming}(m', m'') > h,\ \mathrm{acc} \ge a,\ \text{pruned share} < p

for :math:`w_1` after the first and :math:`w_E` after the last epoch of a round, with :math:`P_q` the q-th percentile
(linear between two weights) of a tensor's live weights, tensor by tensor; the Hamming distance is the share of hidden
weights in which the masks differ. A client stops once the share p is pruned. The update leaves under the new mask, and
the server takes the mean over those who hold a coordinate.

Evidence: read in the authors' public code (MMorafah/Sub-FedAvg@983d98e, without a licence, so described and not
copied). Their defaults: q 10 %, h 1e-4, a 0.5, p 0.3; 100 clients of two shards, 10 % take part, 5 epochs in batches of
10, lr 0.01. Readings of ours: their code measures accuracy on local *test* data, here it is measured on training rows,
so that the held-out ones stay unseen; output layer, first convolution and biases are not pruned, as everywhere here.
Their hybrid form, which prunes channels by the scale of BatchNorm first, is not offered.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import ClientEndView, Pruner, PruneView
from autoflip_secure.models.layout import Layout


def above_percentile(
    weights: Tensor, mask: Bool[Tensor, " params"], layout: Layout, share: float
) -> Bool[Tensor, " params"]:
    """``mask`` without the live weights of each hidden tensor that are smaller than the ``share``-quantile of them."""
    smaller = mask.clone()
    for segment in layout.hidden:
        places = segment.start + mask[segment.slice].nonzero().squeeze(1)
        if len(places):
            sizes = weights[places].double().abs()
            smaller[places[sizes < torch.quantile(sizes, share)]] = False
    return smaller


class SubFedAvg(Pruner):
    """Sub-FedAvg: each client cuts its own mask when it is accurate and what is small has changed while it trained."""

    kind: Literal["subfedavg"] = "subfedavg"
    source: ClassVar[str] = "Vahidian et al. 2021 (Sub-FedAvg, unstructured), arXiv 2105.00562; their code was read"
    own: ClassVar[bool] = True
    needs_end_accuracy: ClassVar[bool] = True
    percentile: Annotated[
        float, Field(gt=0, lt=1, description="q: share of each tensor's live weights below which one is small")
    ] = 0.1
    accuracy: Annotated[
        float, Field(ge=0, le=1, description="on its own training rows after training, from which on a client cuts")
    ] = 0.5
    distance: Annotated[
        float, Field(ge=0, le=1, description="share of hidden weights in which both masks must differ, at least")
    ] = 1e-4
    target: Annotated[
        float, Field(gt=0, le=1, description="share of the hidden weights that is pruned when a client stops cutting")
    ] = 0.3

    def mask(self, view: PruneView) -> Tensor:
        """The mask that all share stays as it is."""
        return view.mask

    def snapshot(self, epochs: int) -> int:
        """The first."""
        return 1

    def client_mask_after(self, view: ClientEndView) -> Bool[Tensor, " params"]:
        """Cut by the weights at the end, or keep the mask."""
        assert view.accuracy is not None
        assert view.snapshot is not None
        prunable = view.layout.prunable.to(view.mask.device)
        hidden = int(prunable.sum())
        pruned = 1 - int(view.mask[prunable].sum()) / max(1, hidden)
        if not hidden or view.accuracy < self.accuracy or pruned >= self.target:
            return view.mask
        early = above_percentile(view.snapshot, view.mask, view.layout, self.percentile)
        late = above_percentile(view.end, view.mask, view.layout, self.percentile)
        return late if int((early ^ late).sum()) / hidden > self.distance else view.mask
