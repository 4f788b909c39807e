r"""Krum and Multi-Krum (Blanchard et al. 2017): the update(s) with the smallest summed distance to their neighbours.

.. math:: \mathrm{score}(k) = \sum_{l \to k} \|u_k - u_l\|^2 \quad\text{over the } n - f - 1 \text{ nearest } l

The paper takes n - f - 2 (``neighbours: n-f-2``), much of the public code n - f - 1.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import bounded_distances, squared_distances
from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView
from autoflip_secure.interfaces.known_attacks import OF_DISTANCES, Known


def krum_scores(
    updates: Float[Tensor, "clients params"], malicious: int, one_less: bool = False
) -> Float[Tensor, " clients"]:
    """Summed squared distances to the ``n - malicious - 1`` nearest others, in double; ``one_less``: to n - f - 2."""
    return _nearest(squared_distances(updates), malicious, one_less)


def _nearest(distances: Float[Tensor, "*all rows rows"], malicious: int, one_less: bool) -> Float[Tensor, "*all rows"]:
    """Sums over neighbours, of as many matrices of distances as there are."""
    n = distances.shape[-1]
    neighbours = min(max(n - malicious - 1 - one_less, 1), max(n - 1, 1))
    distances.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    found: Tensor = distances.sort(dim=-1).values[..., :neighbours].sum(-1)
    return found


def krum_choice(
    updates: Float[Tensor, "clients params"], malicious: int, count: int, one_less: bool = False
) -> Int[Tensor, " count"]:
    """The ``count`` rows of least :func:`krum_scores`; of equal ones the first. In any order.

    Distances from a Gram matrix decide where their rounding cannot matter; where it can, as between copies of one row
    or beside a very long one, exact ones do.
    """
    found = _nearest(bounded_distances(updates), malicious, one_less)  # the sums, the least and the largest possible
    order = found[0].argsort(stable=True)
    chosen, others = order[:count], order[count:]
    if len(others) and not bool(found[2, chosen].max() < found[1, others].min()):
        chosen = krum_scores(updates, malicious, one_less).argsort(stable=True)[:count]
    return chosen


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
        chosen = krum_choice(view.directions, malicious, self.selected(n, malicious), self.neighbours == "n-f-2")
        trust = torch.zeros_like(view.samples)
        trust[chosen] = 1 / len(chosen)
        delta = view.updates[chosen[0]].clone() if len(chosen) == 1 else trust @ view.updates
        return Aggregate(delta, trust, None, state)


class Krum(MultiKrum):
    """The one update that lies closest to its neighbours (Blanchard et al. 2017)."""

    kind: Literal["krum"] = "krum"  # type: ignore[assignment]
    source: ClassVar[str] = "Blanchard et al. 2017: squared distances to the n - f - 1 nearest, summed"

    def selected(self, clients: int, malicious: int) -> int:
        """One."""
        return 1
