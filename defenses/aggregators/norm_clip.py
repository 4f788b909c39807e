r"""The norm-clipped mean (Sun et al. 2019), at the norm of a typical update: the baseline of every comparison.

.. math:: \Delta = \sum_k \frac{p_k}{\sum_l p_l} u_k \min(1, c r / \|u_k\|), \qquad
          r = \exp Q_{0.4}(\overline{\log \|u\|})

r is what AutoFLIP clips at, too: of every client seen so far an exponential mean of its log norms is remembered, and r
is their 0.4-quantile. No client's row counts for more than c typical ones, and nobody is judged.

Weak differential privacy (Sun et al. 2019) adds Gaussian noise whose norm is about a share of c r. It makes a backdoor
fade. Its bound is data, so it proves nothing: no guarantee is printed for it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.client_memory import remembered_norms, typical
from autoflip_secure.algorithm.order_statistics import clip_factors
from autoflip_secure.interfaces import Aggregate, Exploration, PublicView, ReadingAggregator, RowReader
from autoflip_secure.models.layout import Layout


class NormClip(ReadingAggregator):
    """Mean of the updates clipped to the norm of a typical one, which is remembered; trusts everybody."""

    kind: Literal["norm_clip"] = "norm_clip"
    source: ClassVar[str] = "Sun et al. 2019, at a remembered norm: sum_k p_k u_k min(1, c r / |u_k|)"
    remembers: ClassVar[Literal["", "steps", "clients"]] = "clients"
    weighs_samples: ClassVar[bool] = True
    clip: Annotated[float, Field(gt=0, le=1e12, description="c: updates are clipped to so many typical norms r")] = 1.0
    rho: Annotated[float, Field(ge=0, lt=1, description="memory of the clients' log norms")] = 0.5
    weighting: Literal["samples", "equal"] = Field(
        default="samples", description="every client counts by its number of samples, or all count alike"
    )

    def start(
        self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None
    ) -> Float[Tensor, " all_clients"]:
        """No client seen."""
        return weights.new_full((clients,), torch.nan)

    def decide(self, state: Float[Tensor, " all_clients"], reader: RowReader, view: PublicView) -> Aggregate:
        """One round; trust is the share of the samples."""
        norms = reader.norms().to(view.weights)
        state = remembered_norms(state, view.clients, norms, self.rho)
        weights = view.samples if self.weighting == "samples" else torch.ones_like(view.samples)
        trust = weights / weights.sum()
        bound = self.clip * typical(state)
        delta = reader.weighted_sum(trust, clip_factors(norms, bound))
        return Aggregate(self.noised(delta, bound, view), trust, None, state)

    def noised(self, delta: Tensor, bound: Tensor, view: PublicView) -> Tensor:
        """Nothing is added."""
        return delta

    def typical_norm(self, state: Float[Tensor, " all_clients"]) -> float | None:
        """r, of the clients seen so far."""
        found = float(typical(state))
        return found if found > 0 else None


class WeakDP(NormClip):
    """Norm-clipped mean with a little Gaussian noise against backdoors (Sun et al. 2019); proves no privacy."""

    kind: Literal["weak_dp"] = "weak_dp"  # type: ignore[assignment]
    source: ClassVar[str] = "Sun et al. 2019, weak DP: sum_k p_k u_k min(1, c r / |u_k|) + N(0, (z c r)^2 / P)"
    noise: Annotated[
        float, Field(ge=0, le=1e6, description="z, norm of the noise in units of the clipping norm; no privacy")
    ] = 0.1

    def noised(self, delta: Tensor, bound: Tensor, view: PublicView) -> Tensor:
        """Noise on what is trained and alive."""
        live = view.live
        deviation = self.noise * bound / live.sum().clamp_min(1).sqrt()
        draws = torch.randn(delta.shape, generator=view.generator(0), dtype=torch.float32).to(delta)
        return delta + torch.where(live, deviation * draws, 0.0)
