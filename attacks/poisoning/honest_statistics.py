"""Statistics of the honest rows H that attacks on updates are made of, and the attacks that are made of these alone.

``s`` is the sample standard deviation (divisor h - 1), coordinate by coordinate; with one honest row it is 0, and so is
every deviation from the mean. Where clients have masks of their own, both are over those that hold a
coordinate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import column_blocks
from autoflip_secure.interfaces import AttackView, Channel, RowAttack, Threat

Honest = Float[Tensor, "honest params"]
"""H."""
Held = Bool[Tensor, "honest params"] | None
"""Who of H holds what; None: all of them everything."""


def honest_of(rows: Float[Tensor, "seen size"], malicious: Bool[Tensor, " seen"]) -> Float[Tensor, "honest size"]:
    """The honest rows of a channel; where there is none, the malicious clients' own as measured."""
    return rows if bool(malicious.all()) else rows[~malicious]


def deviation(rows: Honest, held: Held = None) -> Float[Tensor, " params"]:
    """s: sample standard deviation of every coordinate; 0 with one row.

    Args:
        rows: H; where a client does not hold a coordinate, the mean of those that do (:attr:`.AttackView.honest_rows`).
        held: who holds what (:attr:`.AttackView.held`); None: all. Then s is over these, and 0 where fewer than two do.
    """
    if len(rows) < 2:
        return torch.zeros_like(rows[0])
    if rows.device.type != "cpu":
        s = rows.std(dim=0)
    else:
        s = torch.cat([torch.from_numpy(_spread(rows[:, block].numpy())) for block in column_blocks(rows)])
    if held is None:
        return s
    holders = held.sum(0)
    fewer = ((len(rows) - 1) / (holders - 1).clamp_min(1)).sqrt().to(s)  # the mean itself deviates by nothing
    return torch.where(holders > 1, s * fewer, 0.0)


def _spread(rows: np.ndarray) -> np.ndarray:
    """Of a block of columns, what ``torch.std`` gives, to the bit: it takes the same steps (Welford 1962, in double)
    coordinate by coordinate, and a CPU about ten times as long."""
    mean = rows[0].astype(np.float64)
    squares = np.zeros_like(mean)
    with np.errstate(invalid="ignore", over="ignore"):
        for number, row in enumerate(rows[1:], 2):
            apart = row - mean
            mean += apart / number
            squares += apart * (row - mean)
        found: np.ndarray = np.sqrt(squares / (len(rows) - 1)).astype(rows.dtype)
    return found


def median_norm(rows: Float[Tensor, "honest params"]) -> Float[Tensor, ""]:
    """The typical norm of a row."""
    norms: Tensor = rows.norm(dim=1)
    return norms.median()


def largest_unnoticed(honest: int, malicious: int) -> float:
    r"""z of ALIE: how far the malicious rows can go and still have a majority with those beyond them.

    .. math:: z = \Phi^{-1}((h - q) / h), \qquad q = \lfloor n / 2 + 1 \rfloor - f

    Where malicious clients are the majority by themselves, q is taken as 1; where no honest one is left, or for small
    cohorts, z is 0 (Baruch et al. 2019).

    >>> [round(largest_unnoticed(n - f, f), 3) for n, f in ((5, 1), (10, 2), (20, 4), (10, 4), (20, 8))]
    [0.0, 0.0, 0.157, 0.431, 0.674]
    """
    supporters = max(math.floor((honest + malicious) / 2 + 1) - malicious, 1)
    if honest <= supporters:
        return 0.0
    return max(0.0, NormalDist().inv_cdf((honest - supporters) / honest))


class CollusiveAttack(RowAttack, ABC):
    """All malicious clients send one row, made of the honest ones and of nothing else; on other channels too."""

    threat: ClassVar[Threat] = Threat("rows", ("update", "exploration"))

    @abstractmethod
    def row(self, honest: Honest, malicious: int, held: Held = None) -> Float[Tensor, " params"]:
        """What they send, from the honest rows, the number of malicious clients in the cohort, and who of the
        honest holds what (None: all of them everything)."""

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows."""
        return view.sending(self.row(view.honest_rows, view.count, view.held)), None

    def channel(
        self,
        channel: Channel,
        rows: Float[Tensor, "clients size"],
        malicious: Bool[Tensor, " clients"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "clients size"]:
        """The same of the rows of another channel."""
        result = rows.clone()
        result[malicious] = self.row(honest_of(rows, malicious), int(malicious.sum())).to(rows)
        return result
