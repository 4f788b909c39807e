r"""Bucketing (Karimireddy et al. 2022): rows are averaged in random groups of s, the buckets.

.. math:: y_i = \frac{1}{|B_i|} \sum_{k \in B_i} u_k, \qquad \lceil n/s \rceil \text{ buckets}

Each malicious row spoils one bucket, so their number f stays what it was while there are fewer rows:
2f has to stay below :math:`\lceil n/s \rceil`.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from autoflip_secure.interfaces import Mixture, PreAggregator, RowsView


class Bucketing(PreAggregator):
    """Rows are averaged in random groups, so that rows of clients with different data become alike."""

    kind: Literal["bucketing"] = "bucketing"
    source: ClassVar[str] = "Karimireddy et al. 2022, Algorithm 1: y_i = the mean of a random bucket of s rows"
    keeps_clients: ClassVar[bool] = False
    size: Annotated[int, Field(ge=1, le=100_000, description="s, rows in a bucket; the last one may have fewer")] = 2

    def rows_after(self, rows: int) -> int:
        """Buckets."""
        return ceil(rows / self.size)

    def mix(self, view: RowsView) -> Mixture:
        """Buckets are drawn anew every round."""
        n = len(view.updates)
        order = torch.randperm(n, generator=view.draws).to(view.updates.device)
        mixing = view.updates.new_zeros(self.rows_after(n), n)
        for number, start in enumerate(range(0, n, self.size)):
            bucket = order[start : start + self.size]
            mixing[number, bucket] = 1 / len(bucket)
        return Mixture(mixing @ view.updates, mixing)
