r"""SNIP (Lee et al. 2019), federated: one cut before training, by how much the loss feels that a connection is there.

.. math::
    c_j = \Big| w_{0j} \sum_k n_k\, g_{kj}(w_0) \Big|, \qquad
    m_j = [\, c_j \text{ among the } \kappa \text{ largest over all hidden tensors} \,]

with :math:`g_k` the mean gradient of client k's own samples at the initial weights. Before round 1 all clients measure
it and send it, dense; the sum over clients is the gradient of the pooled data, so this *is* SNIP on the pooled data,
and the server needs nothing but the sum. Every tensor keeps its best weight, so none is cut to nothing (SNIP's known
failure at high sparsity).

Evidence: the criterion, the one count over all tensors and weights that are drawn anew after the cut are read in the
authors' public code; that all clients take part is our reading (others let one random client decide). Defaults: theirs
is a sparsity of 0.9, so ``density: 0.1``; they measure on one batch of 100, here every client uses all its samples.
*Drawn anew* (``redraw``): each trained tensor has its initial values in a new random order, which for values that are
drawn independently from one distribution, as torch's layers draw them, is another draw of the same values. Constant
tensors stay as they are.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Channel, ChannelRequest, ClientView, Pruner, PruneView
from autoflip_secure.pruning.erk import Density
from autoflip_secure.pruning.hidden_cuts import best_overall

GRADIENT = "gradient"
Bound = Annotated[
    Annotated[float, Field(gt=0, le=1e6)] | None,
    Field(description="L2 norm that each client's gradient is clipped to; needed under client-level privacy"),
]


class Snip(Pruner):
    """One cut before training: the hidden weights stay whose gradient times weight is largest, over all clients."""

    kind: Literal["snip"] = "snip"
    source: ClassVar[str] = "Lee et al. 2019 (SNIP); gradients summed over all clients: our reading"
    prepares: ClassVar[bool] = True
    density: Density = 0.1
    redraw: bool = Field(default=True, description="weights are drawn anew after the cut, as the authors do")
    bound: Bound = None

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        """The gradient of the hidden weights, before training alone."""
        size = int(asked.layout.prunable.sum())
        return (Channel(GRADIENT, size, "sum", self.bound),) if asked.round == 0 and size else ()

    def measure(self, channel: Channel, view: ClientView) -> Float[Tensor, "clients hidden"]:
        """g_k on hidden weights."""
        gradients = view.gradients()
        return gradients[:, view.layout.prunable.to(gradients.device)]

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """Cut in round 0, when gradients have come; the same from then on."""
        gradient = view.channels.get(GRADIENT)
        if view.round > 0 or gradient is None:
            return view.mask
        saliency = (view.weights * view.layout.spread(gradient.mean, view.layout.prunable)).abs()
        count = round(self.density * int(view.layout.prunable.sum()))
        return best_overall(saliency, view.mask, view.layout, count)

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """The weights drawn anew at (PRUNING, number of the tensor), or as they were; zero where they are pruned."""
        if not self.redraw:
            return weights * new
        fresh = weights.clone()
        for number, segment in enumerate(view.layout):
            if segment.trained:
                order = torch.randperm(segment.stop - segment.start, generator=view.generator(number))
                fresh[segment.slice] = weights[segment.slice][order.to(weights.device)]
        return fresh * new
