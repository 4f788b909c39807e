r"""Krum and Multi-Krum (Blanchard et al. 2017): the update(s) with the smallest summed distance to their neighbours.

.. math:: \mathrm{score}(k) = \sum_{l \to k} \|u_k - u_l\|^2 \quad\text{over the } n - f - 1 \text{ nearest } l

The paper takes n - f - 2 (``neighbours: n-f-2``), much of the public code n - f - 1.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import squared_distances
from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView
from autoflip_secure.interfaces.known_attacks import OF_DISTANCES, Known


def krum_scores(
    updates: Float[Tensor, "clients params"], malicious: int, one_less: bool = False
) -> Float[Tensor, " clients"]:
    """Summed squared distances to the ``n - malicious - 1`` nearest others, in double; ``one_less``: to n - f - 2."""
    distances = squared_distances(updates)
    distances.fill_diagonal_(torch.inf)
    neighbours = min(max(len(updates) - malicious - 1 - one_less, 1), max(len(updates) - 1, 1))
    return distances.sort(dim=1).values[:, :neighbours].sum(1)


class MultiKrum(Aggregator):
    """Mean of the updates that lie closest to their neighbours (Blanchard et al. 2017)."""

    kind: Literal["multi_krum"] = "multi_krum"
    source: ClassVar[str] = "Blanchard et al. 2017: squared distances to the n - f - 1 nearest, summed"
    known_by: ClassVar[Known] = OF_DISTANCES
    assumes_malicious: ClassVar[bool] = True
    bad_share: Annotated[float, Field(ge=0, lt=0.5, description="share of the cohort assumed malicious")] = 0.2

    neighbours: Literal["n-f-1", "n-f-2"] = Field(
        default="n-f-1", description="how many nearest rows a row is held against; n-f-2 is the paper's"
    )

    def assumed(self, rows: int) -> int:
        """Rounded."""
        return round(self.bad_share * rows)

    def selected(self, clients: int, malicious: int) -> int:
        """How many updates are averaged."""
        return max(1, clients - malicious)

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is even among the selected clients and 0 for the others."""
        n = len(view.updates)
        malicious = self.malicious_among(view)
        scores = krum_scores(view.directions, malicious, self.neighbours == "n-f-2")
        chosen = scores.argsort(stable=True)[: self.selected(n, malicious)]
        trust = torch.zeros_like(view.samples)
        trust[chosen] = 1 / len(chosen)
        return Aggregate(trust @ view.updates, trust, None, state)


class Krum(MultiKrum):
    """The one update that lies closest to its neighbours (Blanchard et al. 2017)."""

    kind: Literal["krum"] = "krum"  # type: ignore[assignment]
    source: ClassVar[str] = "Blanchard et al. 2017: squared distances to the n - f - 1 nearest, summed"

    def selected(self, clients: int, malicious: int) -> int:
        """One."""
        return 1
