r"""Fang's attacks on known rules: coordinate by coordinate beyond all honest values, or as far back as Krum lets them.

With s = sign(mu), the direction in which each coordinate would move:

.. math::
    \text{trimmed\_mean:}\quad u_{kj} \sim
        \begin{cases} [\max_i h_{ij},\; b^{\pm 1} \max_i h_{ij}] & s_j = -1 \\
                      [b^{\mp 1} \min_i h_{ij},\; \min_i h_{ij}] & s_j = +1 \end{cases} \qquad
    \text{krum:}\quad u_k = -\lambda s

uniformly and by every malicious client for itself, with the power of b by which the end of the interval lies beyond the
extreme: max b where it is positive, max / b where it is not. A coordinate whose mean is 0 has no direction, and gets 0.

lambda begins at the bound of Theorem 1, is halved until Krum picks the row, and is the largest of these that it picks:

.. math::
    \lambda \le \sqrt{\frac{\min_i \sum_{l \to i} \|h_i - h_l\|^2}{\max(n - 2f - 1, 1)\, d}}
        + \frac{\max_i \|h_i\|}{\sqrt d}

with the n - f - 2 nearest honest l (or n - f - 1), and d coordinates that have a direction (Fang et al. 2020, with full
knowledge; the models there are updates here).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import squared_distances
from autoflip_secure.attacks.poisoning.honest_statistics import honest_of
from autoflip_secure.interfaces import AttackView, Channel, RowAttack, Threat


class Fang(RowAttack):
    """Against a known rule: beyond all honest values on the wrong side, or the furthest reversal that Krum picks."""

    kind: Literal["fang"] = "fang"
    source: ClassVar[str] = "Fang et al. 2020"
    equation: ClassVar[str] = (
        "u_j ~ U[max h_j, b max h_j] where mu_j < 0, U[b min h_j, min h_j] where mu_j > 0; against: krum: u = -l sign "
        "mu, the largest l that Krum picks"
    )
    threat: ClassVar[Threat] = Threat("rows", ("update", "exploration"))
    against: Literal["trimmed_mean", "krum"] = Field(
        default="trimmed_mean", description="the rule: trimmed_mean, and the same rows against a median; or krum"
    )
    b: Annotated[
        float, Field(ge=1, le=1e6, description="with against: trimmed_mean: how far beyond, as a factor of the extreme")
    ] = 2.0
    neighbours: Literal["n-f-1", "n-f-2"] = Field(
        default="n-f-1", description="with against: krum: how many rows it holds a row against; n-f-2 is the paper's"
    )
    halvings: Annotated[
        int, Field(ge=1, le=1000, description="with against: krum: lengths that are tried, at most")
    ] = 20

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows; where Krum picks none of them, the shortest is sent, and told in the events."""
        honest, count = view.honest_rows, view.count
        if self.against == "krum":
            length, picked = self.length(honest, count)
            if not picked:
                view.tell(f"Krum picks none of {self.halvings} rows in some rounds")
            return view.sending(-length * honest.mean(0).sign()), None
        draws = [view.generators[place] for place in view.malicious.nonzero().squeeze(1).tolist()]
        return view.sending(self._beyond(honest, draws)), None

    def channel(
        self,
        channel: Channel,
        rows: Float[Tensor, "clients size"],
        malicious: Bool[Tensor, " clients"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "clients size"]:
        """The same of the rows of another channel."""
        result, honest = rows.clone(), honest_of(rows, malicious)
        count = int(malicious.sum())
        draws = [generators[place] for place in malicious.nonzero().squeeze(1).tolist()]
        if self.against == "krum":
            lies = -self.length(honest, count)[0] * honest.mean(0).sign()
        else:
            lies = self._beyond(honest, draws)
        result[malicious] = lies.to(rows)
        return result

    def interval(
        self, honest: Float[Tensor, "honest params"]
    ) -> tuple[Float[Tensor, " params"], Float[Tensor, " params"]]:
        """Least and largest value of every coordinate: from the honest extreme outwards, against the honest mean."""
        low, high, mean = honest.amin(0), honest.amax(0), honest.mean(0)
        above = torch.where(high > 0, high * self.b, high / self.b)
        below = torch.where(low > 0, low / self.b, low * self.b)
        least = torch.where(mean > 0, below, torch.where(mean < 0, high, 0.0))
        return least, torch.where(mean > 0, low, torch.where(mean < 0, above, 0.0))

    def _beyond(self, honest: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
        least, largest = self.interval(honest)
        drawn = torch.stack([torch.rand(honest.shape[1], generator=draw) for draw in draws]).to(honest)
        return torch.lerp(least.expand_as(drawn), largest.expand_as(drawn), drawn)

    def bound(self, honest: Float[Tensor, "honest params"], malicious: int) -> float:
        """Where lambda begins."""
        directed = max(int(honest.mean(0).count_nonzero()), 1)
        distances = squared_distances(honest)
        nearest = distances.fill_diagonal_(torch.inf).sort(dim=1).values[:, : self._held_against(honest, malicious)]
        nearest = nearest[:, : len(honest) - 1]
        least = float(nearest.sum(1).min())
        room = max(len(honest) - malicious - 1, 1)  # n - 2f - 1
        return math.sqrt(least / (room * directed)) + float(honest.norm(dim=1).max()) / math.sqrt(directed)

    def _held_against(self, honest: Tensor, malicious: int) -> int:
        """Neighbours that Krum sums over: at least one, at most all."""
        n = len(honest) + malicious
        return min(max(n - malicious - (1 if self.neighbours == "n-f-1" else 2), 1), n - 1)

    def length(self, honest: Float[Tensor, "honest params"], malicious: int) -> tuple[float, bool]:
        """lambda, and whether Krum picks the row; where it does at none of the lengths, the shortest."""
        direction, length = honest.mean(0).sign(), self.bound(honest, malicious)
        between, held = squared_distances(honest), self._held_against(honest, malicious)
        for _ in range(self.halvings):
            if self._picked(between, (honest + length * direction).double().square().sum(1), malicious, held):
                return length, True
            length /= 2
        return 2 * length, False

    def _picked(self, between: Tensor, own: Tensor, malicious: int, held: int) -> bool:
        """Whether one of equal rows at squared distances ``own`` from the honest ones has the least score."""
        lie = torch.cat([own.new_zeros(malicious - 1), own.sort().values])[:held].sum()
        others = torch.cat([between.clone().fill_diagonal_(torch.inf), own[:, None].expand(-1, malicious)], 1)
        return bool(lie < others.sort(dim=1).values[:, :held].sum(1).min())
