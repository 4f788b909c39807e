r"""Divide and conquer (DnC, Shejwalkar & Houmansadr 2021): rows that stand out along the direction of most variance go.

On r random coordinates, with :math:`\bar u` the mean of the rows and v the leading right singular vector of the rows
less their mean, the c f rows with the largest

.. math:: \langle u_k - \bar u, v \rangle^2

are dropped; the mean is over the rows that several such draws all keep. Where no row is left, it is over those that
were dropped least often: the paper does not say. With fewer than r live coordinates all of them are taken, once.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import column_blocks
from autoflip_secure.defenses.aggregators.assuming import Assuming, even_trust
from autoflip_secure.interfaces import Aggregate, RoundView


def outlyingness(rows: Float[Tensor, "rows params"]) -> Float[Tensor, " rows"]:
    """Squared projections on the leading singular vector of the centred rows, in units of its singular value."""
    products = rows.new_zeros(len(rows), len(rows), dtype=torch.float64)
    for block in column_blocks(rows):
        wide = rows[:, block].double()
        wide = wide - wide.mean(0)
        products += wide @ wide.T
    leading: Tensor = torch.linalg.eigh(products.cpu())[1][:, -1]
    return leading.square().to(rows.device)


class DnC(Assuming):
    """Mean of the updates that do not stand out along the direction of most variance (Shejwalkar & Houmansadr 2021)."""

    kind: Literal["dnc"] = "dnc"
    source: ClassVar[str] = (
        "Shejwalkar & Houmansadr 2021, Algorithm 2 (DnC): the c f rows of largest <u_k - mean, v>^2 go, v the leading "
        "singular vector on r random coordinates; what all draws keep is averaged"
    )
    coordinates: Annotated[int, Field(ge=1, le=10**9, description="r, random coordinates of a draw")] = 10_000
    draws: Annotated[int, Field(ge=1, le=10_000, description="how often coordinates are drawn")] = 5
    dropped: Annotated[float, Field(gt=0, le=100, description="c, rows dropped in a draw, in units of f")] = 1.0

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is even among the rows that are kept."""
        n, malicious = len(view.updates), self.malicious_among(view)
        rows, live = view.directions, view.live.nonzero().squeeze(1)
        kept, times = n - min(int(self.dropped * malicious), n - 1), torch.zeros(n, device=rows.device)
        once = len(live) <= self.coordinates
        for number in range(1 if once else self.draws):
            if not once:
                order = torch.randperm(len(live), generator=view.generator(number))
                places = live[order[: self.coordinates].to(live.device)]
            dropped = outlyingness(rows[:, live if once else places]).argsort(stable=True)[kept:]
            times[dropped] += 1
        trust = even_trust((times == times.min()).nonzero().squeeze(1), view.samples)
        return Aggregate(trust @ view.updates, trust, None, state)
