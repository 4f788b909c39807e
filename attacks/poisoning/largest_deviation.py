r"""Min-max and min-sum: the largest step along a direction p that is no further from the honest rows than they allow.

.. math::
    u_k \leftarrow \mu + g\,p, \qquad
    \text{min-max:}\; \max_i \|\mu + g p - h_i\| \le \max_{i,j} \|h_i - h_j\|, \qquad
    \text{min-sum:}\; \sum_i \|\mu + g p - h_i\|^2 \le \max_i \sum_j \|h_i - h_j\|^2

With c_i = h_i - mu, a = ||p||², b_i = -<c_i, p>, Q_i = ||c_i||² - L the largest g is known, and nothing is searched:

.. math::
    g = \min_i \frac{-b_i + \sqrt{b_i^2 - a Q_i}}{a}, \qquad
    g = \frac{-B + \sqrt{B^2 - h a Q}}{h a}, \quad B = \sum_i b_i,\; Q = \sum_i \|c_i\|^2 - L

(Shejwalkar & Houmansadr 2021, whose code halves a step instead, and so never gets beyond twice its first one.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, squared_distances
from autoflip_secure.attacks.poisoning.honest_statistics import CollusiveAttack, Held, Honest, deviation


class LargestDeviation(CollusiveAttack, ABC):
    """Common to both: the honest mean, and as far from it as the bound allows."""

    direction: Literal["deviation", "unit", "sign"] = Field(
        default="deviation",
        description="p: against the sample standard deviations, the honest mean at unit length, or its signs",
    )

    def row(self, honest: Honest, malicious: int, held: Held = None) -> Float[Tensor, " params"]:
        """mu + g p; mu where p is 0, as with a single honest row."""
        rows = honest.double()
        mean = rows.mean(0)
        p = -self._direction(rows, mean, held)
        size = float(p.square().sum())
        if size == 0:
            return mean.to(honest)
        return (mean + self.step(rows - mean, p, squared_distances(honest)) * p).to(honest)

    def _direction(self, rows: Tensor, mean: Tensor, held: Tensor | None) -> Tensor:
        if self.direction == "deviation":
            return deviation(rows, held)
        return mean.sign() if self.direction == "sign" else mean / mean.norm().clamp_min(TINY)

    @abstractmethod
    def step(
        self, centred: Float[Tensor, "honest params"], p: Float[Tensor, " params"], distances: Float[Tensor, "h h"]
    ) -> Float[Tensor, ""]:
        """g, from c_i, p and the squared distances of the honest rows."""


class MinMax(LargestDeviation):
    """Min-max: the furthest row that is no further from any honest row than two honest rows are from each other."""

    kind: Literal["min_max"] = "min_max"
    source: ClassVar[str] = "Shejwalkar & Houmansadr 2021, in closed form"
    equation: ClassVar[str] = "u = mu + g p, the largest g with max_i ||u - h_i|| <= max_ij ||h_i - h_j||"

    def step(
        self, centred: Float[Tensor, "honest params"], p: Float[Tensor, " params"], distances: Float[Tensor, "h h"]
    ) -> Float[Tensor, ""]:
        """The least over the honest rows of the larger root."""
        a, b = p.square().sum(), -(centred @ p)
        room = (centred.square().sum(1) - distances.max()).clamp_max(0)
        return ((-b + (b.square() - a * room).sqrt()) / a).min()


class MinSum(LargestDeviation):
    """Min-sum: the furthest row whose squared distances to the honest rows sum to no more than an honest row's do."""

    kind: Literal["min_sum"] = "min_sum"
    source: ClassVar[str] = "Shejwalkar & Houmansadr 2021, in closed form"
    equation: ClassVar[str] = "u = mu + g p, the largest g with sum_i ||u - h_i||² <= max_i sum_j ||h_i - h_j||²"
    bound: Literal["largest", "smallest"] = Field(
        default="largest", description="of the honest rows' sums: the largest (the paper), or the smallest (its code)"
    )

    def step(
        self, centred: Float[Tensor, "honest params"], p: Float[Tensor, " params"], distances: Float[Tensor, "h h"]
    ) -> Float[Tensor, ""]:
        """The larger root."""
        sums = distances.sum(1)
        bound = sums.max() if self.bound == "largest" else sums.min()
        a, b = len(centred) * p.square().sum(), -(centred @ p).sum()
        room = (centred.square().sum() - bound).clamp_max(0)
        found: Tensor = (-b + torch.sqrt(b.square() - a * room)) / a
        return found
