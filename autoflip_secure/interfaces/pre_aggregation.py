"""What a pre-aggregator is asked, and with what: rows become other rows before an aggregator sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces.base import Plugin


@dataclass(frozen=True)
class RowsView:
    """The rows of a round, and what a pre-aggregator may know besides."""

    updates: Float[Tensor, "rows params"]  # what is mixed: running statistics are among it
    directions: Float[Tensor, "rows params"]  # what norms and distances are measured on
    malicious: int  # f: how many of the rows are assumed to be malicious, below half of them
    draws: torch.Generator  # its own address, round by round


@dataclass(frozen=True)
class Mixture:
    """Rows of which each is a mixture of the rows before.

    ``mixing`` says how much of each: non-negative, each row of sum 1 at most. What is linear in the rows follows from
    it. Scaled to sum 1 it is the *shares* of a row, by which numbers about rows and about clients become one another.
    """

    rows: Float[Tensor, "mixed params"]
    mixing: Float[Tensor, "mixed rows"]

    @property
    def shares(self) -> Float[Tensor, "mixed rows"]:
        """Whose opinion each row is: of sum 1. A row that was clipped is still all its client's."""
        return self.mixing / self.mixing.sum(1, keepdim=True)


class PreAggregator(Plugin, ABC):
    """Changes the rows of a round before they are aggregated; named in ``before`` of an aggregator, in this order."""

    assumes_malicious: ClassVar[bool] = False
    """Whether its rule has an f; then it has the option ``bad_share``: :class:`AssumingPreAggregator`."""
    keeps_clients: ClassVar[bool] = True
    """Whether row k is still about client k, so that aggregators that remember single clients can work on it."""

    @abstractmethod
    def mix(self, view: RowsView) -> Mixture:
        """The rows that come after. It leaves what it is shown as it is."""

    def rows_after(self, rows: int) -> int:
        """How many rows come of so many."""
        return rows

    def assumed(self, rows: int, of_aggregator: float | None, bucketed: int | None = None) -> int:
        """f for a round of so many rows.

        Args:
            rows: how many there are.
            of_aggregator: the share that the aggregator assumes; None: it assumes none.
            bucketed: how many are assumed malicious where rows were bucketed before; None: they were not.
        """
        return 0


DEFAULT_SHARE = 0.2


class AssumingPreAggregator(PreAggregator):
    """One whose rule has an f."""

    assumes_malicious: ClassVar[bool] = True
    bad_share: Annotated[float, Field(ge=0, lt=0.5)] | None = Field(
        default=None,
        description="share of the rows assumed malicious; null = that of the aggregator, or 0.2 if it has none",
    )

    def assumed(self, rows: int, of_aggregator: float | None, bucketed: int | None = None) -> int:
        """Its own share of the rows, or else what is known of them; rounded, and below half of them."""
        if self.bad_share is None and bucketed is not None:
            return bucketed
        share = self.bad_share
        if share is None:
            share = DEFAULT_SHARE if of_aggregator is None else of_aggregator
        return min(round(share * rows), max(rows - 1, 0) // 2)
