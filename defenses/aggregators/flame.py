r"""FLAME (Nguyen et al. 2022, Algorithm 1): the majority cluster of directions, clipped to the median norm, with noise.

HDBSCAN on the cosine distances :math:`1 - \cos(u_k, u_l)`, with clusters of at least :math:`\lfloor n/2 \rfloor + 1`
rows, one core sample, and a single cluster allowed, admits the rows A of the one cluster that there can be: the first
group, joined by ever larger distances, that more than half of the rows are in. (Whether a row counts as its own first
neighbour makes no difference.) With m the median norm of *all* rows, admitted or not,

.. math:: \Delta = \frac{1}{|A|} \sum_{k \in A} u_k \min(1, m / \|u_k\|) + N(0, (\lambda m)^2)

on every live coordinate. The paper is open about whether distances are between local models or between their updates;
here they are between updates, as in most public code. The median of an even number is the mean of the middle two.

The noise makes backdoors fade. The paper derives its size from differential privacy, but m is data, so it proves
nothing: no guarantee is printed for it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import clip_factors, quantile
from autoflip_secure.defenses.aggregators.assuming import even_trust
from autoflip_secure.defenses.aggregators.cosines import cosines, products
from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView
from autoflip_secure.interfaces.known_attacks import OF_CLUSTERS, Known


def majority(distances: Float[Tensor, "rows rows"]) -> Bool[Tensor, " rows"]:
    """Rows in the one cluster that more than half of them are in; all of them where there is but one row."""
    from sklearn.cluster import HDBSCAN

    n = len(distances)
    if n < 2:
        return torch.ones(n, dtype=torch.bool)
    clusters = HDBSCAN(
        min_cluster_size=n // 2 + 1, min_samples=1, allow_single_cluster=True, metric="precomputed", copy=True
    )
    found: np.ndarray = clusters.fit_predict(distances.cpu().numpy())
    return torch.from_numpy(found >= 0)


class FLAME(Aggregator):
    """Mean of the majority's cluster by direction, clipped to the median norm, with noise; proves no privacy."""

    kind: Literal["flame"] = "flame"
    source: ClassVar[str] = (
        "Nguyen et al. 2022, Algorithm 1 (FLAME): HDBSCAN on 1 - cos admits A; mean over A of u_k min(1, m / |u_k|), m "
        "the median norm of all rows, + N(0, (lambda m)^2)"
    )
    scores_clients: ClassVar[bool] = True
    known_by: ClassVar[Known] = OF_CLUSTERS
    noise: Annotated[
        float, Field(ge=0, le=1e6, description="lambda, deviation of the noise in median norms; no privacy")
    ] = 0.001

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is even among who is admitted, and the score is whether one is."""
        rows = view.directions
        gram = products(rows, rows)
        norms = gram.diagonal().sqrt()
        distances = (1 - cosines(gram)).fill_diagonal_(0)
        admitted, bound = majority(distances).to(rows.device), quantile(norms, 0.5)
        trust = even_trust(admitted.nonzero().squeeze(1), view.samples)
        delta = (trust * clip_factors(norms, bound).to(trust)) @ view.updates
        draws = torch.randn(delta.shape, generator=view.generator(0), dtype=torch.float32).to(delta)
        delta = delta + torch.where(view.live, self.noise * bound.to(delta) * draws, 0.0)
        return Aggregate(delta, trust, admitted.to(trust), state)
