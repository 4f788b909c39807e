"""What a pre-aggregator is asked, and with what: rows become other rows before an aggregator sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces.base import Plugin
from autoflip_secure.interfaces.known_attacks import Known


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


@dataclass(frozen=True)
class ClientRows:
    """One row for each of some clients, and what is known of each besides."""

    clients: Int[Tensor, " clients"]
    updates: Float[Tensor, "clients params"]
    samples: Float[Tensor, " clients"]  # n_k
    shrinkage: Float[Tensor, " clients"]  # share of w that weight decay alone took off


class PreAggregator(Plugin, ABC):
    """Changes the rows of a round before they are aggregated; named in ``before`` of an aggregator, in this order.

    One that remembers rows stands first. It shows those of clients, too, that are absent from a round: :meth:`recall`
    comes before :meth:`mix`.
    """

    assumes_malicious: ClassVar[bool] = False
    """Whether its rule has an f; then it has the option ``bad_share``: :class:`AssumingPreAggregator`."""
    keeps_clients: ClassVar[bool] = True
    """Whether row k is still about client k, so that aggregators that remember single clients can work on it."""

    known_by: ClassVar[Known] = ()
    """Attacks that know it, for the suite ``adaptive``."""
    remembers: ClassVar[bool] = False
    """Whether it shows rows of clients that are absent from a round: it has :meth:`start` and :meth:`recall`."""

    def start(self, clients: int) -> Any:
        """What it remembers before round 1, of so many clients in all. Default: nothing."""
        return None

    def recall(self, memory: Any, rows: ClientRows, mask: Bool[Tensor, " params"]) -> tuple[ClientRows, Any]:
        """The rows of a round with those that are remembered, and the memory after it. Default: the round's alone.

        Args:
            memory: from before the round; it is left as it is, since attackers may try rounds.
            rows: of this round.
            mask: which coordinates are alive now.

        Returns:
            The rows, those of this round's clients first and in their order, 0 where the mask is.
        """
        return rows, memory

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
