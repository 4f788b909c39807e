r"""Centred clipping (Karimireddy et al. 2021): updates are clipped around the last aggregate.

.. math:: v \leftarrow v + \frac{1}{n} \sum_k (u_k - v) \min(1, \tau / \|u_k - v\|)
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import clip_factors, norms
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, RoundView
from autoflip_secure.interfaces.known_attacks import OF_LAST_STEP, Known
from autoflip_secure.models.layout import Layout


class CenteredClipping(Aggregator):
    """Mean of the updates clipped around the last aggregate (Karimireddy et al. 2021)."""

    kind: Literal["centered_clipping"] = "centered_clipping"
    source: ClassVar[str] = "Karimireddy et al. 2021: v + mean_k (u_k - v) min(1, tau / |u_k - v|)"
    known_by: ClassVar[Known] = OF_LAST_STEP
    remembers: ClassVar[Literal["", "steps", "clients"]] = "steps"
    radius: Annotated[float, Field(gt=0, le=1e12, description="tau, in `unit`")] = 1.0
    unit: Literal["median", "absolute"] = Field(
        default="median", description="tau is in median distances to the centre, or a number as it is"
    )
    steps: Annotated[int, Field(ge=1, le=10_000, description="iterations per round")] = 1

    def start(self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None) -> Tensor:
        """The first centre is zero."""
        return torch.zeros_like(weights)

    def aggregate(self, state: Tensor, view: RoundView) -> Aggregate:
        """One round; trust is each client's remaining share after clipping, scaled to sum 1."""
        centre, n = state, len(view.updates)
        factor = torch.ones_like(view.samples)
        for _ in range(self.steps):
            offsets = view.updates - centre
            distances = norms(view.layout.of_trained(offsets))
            factor = clip_factors(distances, self.radius * (distances.median() if self.unit == "median" else 1)).to(
                offsets
            )
            centre = centre + (factor / n) @ offsets
        total = factor.sum()
        trust = factor / total if bool(total > 0) else torch.full_like(factor, 1 / n)
        return Aggregate(centre, trust, None, centre)
