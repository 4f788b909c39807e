r"""Mean around the median (MeaMed, Xie et al. 2018): per coordinate the mean of the n - f values nearest to it.

.. math:: \Delta_j = \frac{1}{n-f} \sum_{k \in N_j} u_{kj}, \qquad
          N_j = \text{the } n - f \text{ values nearest to } \mathrm{med}_k u_{kj}

In ascending order these are neighbours, so f + 1 windows are all there is to look at; of equally near ones that with
the smaller values is taken.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import ascending, column_blocks
from autoflip_secure.defenses.aggregators.assuming import Assuming
from autoflip_secure.interfaces import Aggregate, RoundView


def mean_around_median(rows: Float[Tensor, "rows params"], malicious: int) -> Float[Tensor, " params"]:
    """Of every coordinate, in blocks of columns."""
    n, blocks = len(rows), []
    size = n - malicious
    for block in column_blocks(rows):
        ordered = ascending(rows[:, block])
        median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
        nearest, found = torch.full_like(median, torch.inf), torch.zeros_like(median)
        for first in range(malicious + 1):
            farthest = torch.maximum(median - ordered[first], ordered[first + size - 1] - median)
            found = torch.where(farthest < nearest, ordered[first : first + size].mean(0), found)
            nearest = torch.minimum(farthest, nearest)
        blocks.append(found)
    return torch.cat(blocks)


class MeaMed(Assuming):
    """In each coordinate the mean of the n-f values nearest to the median (Xie et al. 2018)."""

    kind: Literal["meamed"] = "meamed"
    source: ClassVar[str] = "Xie et al. 2018 (MeaMed): per coordinate the mean of the n - f values nearest the median"

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is even, since every client may count in some coordinate."""
        n = len(view.updates)
        delta = mean_around_median(view.updates, self.malicious_among(view))
        return Aggregate(delta, view.samples.new_full((n,), 1 / n), None, state)
