r"""FedTiny (Huang et al. 2023) and RigL (Evci et al. 2020), federated: the server swaps weights by summed gradients.

.. math::
    g = \frac{\sum_k n_k g_k}{\sum_k n_k}; \quad \text{per hidden tensor: the } k_l \text{ live weights of least } |w|
    \text{ go, as many of the largest } |g| \text{ come, at weight zero}

in the rounds and with the :math:`k_l` of :mod:`.swapping`; the first mask is random, by ERK. In those rounds alone
every participant sends the dense gradient of the hidden weights, over all its samples, at the weights that its local
training ended with (``at: end``) or began with (``start``). The server needs nothing but its mean.

``fedtiny`` grows among weights that were dead before. With ``returning`` those that have just gone are candidates too,
and a weight that returns at once keeps its value: RigL's rule. The algorithm ``rigl`` is that with RigL's timetable
(alpha 0.3, until 75 % of the rounds); RigL itself is centralised, with a batch's gradient every 100 steps.

Evidence: FedTiny is read in a public benchmark (FedPruning), in parts; RigL in the authors' public code. Defaults: R of
10 rounds, density 0.1, alpha 0.2, T of 100 to 300 of 500 rounds (here 0.6). Two things of FedTiny's paper are not in
it, as in the benchmark: the choice among candidate masks by batch normalisation statistics, and gradients that travel
as the top k of one block of layers at a time; here all hidden gradients travel, dense. The benchmark's gradient is that
of one batch of 64.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Channel, ChannelRequest, ClientView, PruneView
from autoflip_secure.pruning.erk import random_erk
from autoflip_secure.pruning.snip import GRADIENT, Bound
from autoflip_secure.pruning.swapping import Swapping


class SwapByGradient(Swapping):
    """The smallest live weights make room for those of largest mean gradient, at a constant density per tensor."""

    kind: Literal["fedtiny"] = "fedtiny"
    source: ClassVar[str] = "Huang et al. 2023 (FedTiny), without its choice of a first mask; Evci et al. 2020 (RigL)"
    dense_gradients: ClassVar[bool] = True
    returning: bool = Field(default=False, description="what has just gone may come back at once, as in RigL")
    at: Literal["start", "end"] = Field(default="end", description="gradients before or after local training")
    bound: Bound = None

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        """The gradient of the hidden weights, in rounds that move the mask."""
        size = int(asked.layout.prunable.sum())
        return (Channel(GRADIENT, size, "sum", self.bound),) if size and self.moves(asked.round, asked.rounds) else ()

    def measure(self, channel: Channel, view: ClientView) -> Float[Tensor, "clients hidden"]:
        """g_k on hidden weights, dead ones too."""
        gradients = view.gradients(self.at)
        return gradients[:, view.layout.prunable.to(gradients.device)]

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """Random in round 0; swapped when that is due and gradients have come."""
        if view.round == 0:
            return random_erk(view, self.density)
        gradient = view.channels.get(GRADIENT)
        if gradient is None:
            return view.mask
        sizes, wanted = view.weights.abs(), view.layout.spread(gradient.mean, view.layout.prunable).abs()
        moved = view.mask.clone()
        for segment in view.layout.hidden:
            live = view.mask[segment.slice]
            count = self.moved(int(live.sum()), view.round, view.rounds)
            if not self.returning:
                count = min(count, int((~live).sum()))
            going = torch.where(live, sizes[segment.slice], torch.inf).argsort(stable=True)[:count]
            left = live.clone()
            left[going] = False
            free = ~left if self.returning else ~live
            score = torch.where(free, wanted[segment.slice], -torch.inf)
            left[score.argsort(descending=True, stable=True)[:count]] = True
            moved[segment.slice] = left
        return moved
