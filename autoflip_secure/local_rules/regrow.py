r"""Sparse-to-sparse training: in the middle of local training the smallest weights go, and as many others come.

.. math::
    a_t = \frac{a}{2}\Big(1 + \cos\frac{\pi t}{T}\Big), \qquad
    \text{of each hidden tensor: } \lfloor a_t \cdot \text{live} \rfloor
    \text{ live weights of least } |w_j| \text{ go, as many of largest } |g_j| \text{ come}

with :math:`t` of :math:`T` rounds (of the share ``until`` of them; every ``every``-th from the first), :math:`a_T =
0`, and :math:`g` the dense gradient of the last mini-batch. What just
went may come back, and then keeps its weight (Evci et al. 2020, RigL); whatever else comes starts at 0. FedSpa and
DisPFL move masks at the end of local training; here it is in the middle by default, as FedDST does, so that what came
is trained before it is sent: at the end it would be sent as 0.
"""

from __future__ import annotations

from math import cos, pi
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import LocalRule, LocalView


class Regrow(LocalRule):
    """Clients drop their smallest weights and grow as many by gradient, once in local training."""

    kind: Literal["regrow"] = "regrow"
    source: ClassVar[str] = "Huang et al. 2022 (FedSpa), Dai et al. 2022 (DisPFL); when: Bibikar et al. 2022 (FedDST)"
    share: Annotated[
        float, Field(gt=0, le=1, description="of each tensor's live weights that move in the first rounds; falls to 0")
    ] = 0.5
    after: Annotated[
        int | None,
        Field(ge=1, le=10_000, description="epochs of local training before the mask moves; null = half of them"),
    ] = None
    every: Annotated[int, Field(ge=1, le=100_000, description="rounds from one in which masks move to the next")] = 1
    until: Annotated[
        float, Field(gt=0, le=1, description="share of the rounds after which masks stay; the share falls to 0 there")
    ] = 1.0

    def moves_in(self, round_: int, rounds: int) -> bool:
        """In rounds 1, 1 + ``every``, … before the share ``until`` of all; with ``until`` 1 in the last, too."""
        return (round_ - 1) % self.every == 0 and (self.until == 1 or round_ < self.until * rounds)

    def moves_after(self, epoch: int, epochs: int) -> bool:
        """Once: after ``after`` epochs, or half of them, rounded down, at least 1."""
        return epoch == (max(1, epochs // 2) if self.after is None else self.after)

    def mask(
        self, view: LocalView, gradients: list[Tensor], epoch: Int[Tensor, " models"], epochs: int
    ) -> list[Tensor]:
        """Drop and grow in each hidden tensor; every other stays as it is."""
        assert view.masks is not None
        share = self.share / 2 * (1 + cos(pi * min(1.0, view.round / (self.until * view.rounds))))
        found = []
        for segment, mask, weight, gradient in zip(view.segments, view.masks, view.weights, gradients, strict=True):
            live = mask.reshape(len(mask), -1) > 0
            if segment.hidden:
                count = (share * live.sum(1).double()).long()
                kept = largest(weight.reshape(live.shape), live, live.sum(1) - count)
                live = kept | largest(gradient.reshape(live.shape), ~kept, count)
            found.append(live.view_as(mask))
        return found


def largest(
    values: Float[Tensor, "models numbers"], among: Bool[Tensor, "models numbers"], counts: Int[Tensor, " models"]
) -> Bool[Tensor, "models numbers"]:
    """The ``counts`` largest in size of each model, ``among`` which there are so many; of equals the first."""
    order = values.abs().masked_fill(~among, -1).argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(values.shape[1], device=values.device) < counts[:, None]
    return torch.zeros_like(among).scatter_(1, order, chosen)
