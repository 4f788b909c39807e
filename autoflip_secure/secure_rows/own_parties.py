"""Parties played by this process, which holds the rows: the arithmetic of shares without sharing, for a rehearsal."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Int
from torch import Tensor

from autoflip_secure.secure_rows.secret_rows import LocalRows, Sketch
from autoflip_secure.secure_rows.secure_sum import Revealed, SecureSum, SharedBatch, Traffic


class OwnRows(LocalRows, SharedBatch):
    """Rows of this process, and what was asked about them."""

    def __init__(self, values: Int[Tensor, "clients params"], clients: tuple[int, ...]) -> None:
        super().__init__(values, clients)
        self.events, self.revealed = (), Revealed()

    def total(self, weights: Int[Tensor, " clients"] | None = None) -> Int[Tensor, " params"]:
        """See :class:`~autoflip_secure.secure_rows.secret_rows.SecretRows`."""
        self.revealed = replace(self.revealed, sums=self.revealed.sums + 1)
        return super().total(weights)

    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """See :class:`~autoflip_secure.secure_rows.secret_rows.SecretRows`."""
        self.revealed = replace(self.revealed, products=self.revealed.products + len(vectors))
        return super().products(vectors)

    def squared_norms(
        self, sketch: Sketch | None = None, starts: Int[Tensor, " groups"] | None = None
    ) -> Int[Tensor, "clients groups"]:
        """See :class:`~autoflip_secure.secure_rows.secret_rows.SecretRows`."""
        found = super().squared_norms(sketch, starts)
        self.revealed = replace(self.revealed, norms=self.revealed.norms + found.shape[1])
        return found

    def forget(self) -> None:
        """Rows go with their batch."""


class OwnParties(SecureSum):
    """Nobody drops out, and nothing is sent."""

    parties = 1

    def share(self, rows: Int[Tensor, "clients params"], clients: tuple[int, ...]) -> OwnRows:
        """The rows themselves."""
        return OwnRows(rows, clients)

    @property
    def traffic(self) -> Traffic:
        """None."""
        return Traffic(0, 0, 0, 0)
