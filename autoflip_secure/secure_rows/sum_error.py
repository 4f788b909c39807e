r"""How far revealed sums are from the sums of the rows themselves, which only a simulator can know.

.. math:: \max_j \Big| 2^{-b} S_j - \sum_k w_k x_{kj} \Big| \Big/ \max_j \Big| \sum_k w_k x_{kj} \Big|

S is what the parties revealed, the other sum is in double, one row after the other, so that it is the same on every
machine. For the record alone; nothing of it goes back into the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import SecretRows, Sketch


class WatchedRows(SecretRows):
    """Secret rows whose sums are noted; :meth:`error` when all is done, for it takes time of its own."""

    def __init__(self, rows: SecretRows, points: FixedPoint) -> None:
        """Watch ``rows``, in shares, that were encoded with ``points``."""
        self.rows, self.clients, self.params = rows, rows.clients, rows.params
        self._points = points
        self._seen: list[tuple[list[int], Tensor]] = []

    def total(self, weights: Int[Tensor, " clients"] | None = None) -> Int[Tensor, " params"]:
        """See :class:`~autoflip_secure.secure_rows.secret_rows.SecretRows`."""
        found = self.rows.total(weights)
        self._seen.append(([1] * len(self.clients) if weights is None else weights.tolist(), found))
        return found

    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """See :class:`~autoflip_secure.secure_rows.secret_rows.SecretRows`."""
        return self.rows.products(vectors)

    def squared_norms(
        self, sketch: Sketch | None = None, starts: Int[Tensor, " groups"] | None = None
    ) -> Int[Tensor, "clients groups"]:
        """See :class:`~autoflip_secure.secure_rows.secret_rows.SecretRows`."""
        return self.rows.squared_norms(sketch, starts)

    def error(self, own: Sequence[Float[Tensor, " all"]], live: Bool[Tensor, " all"] | None = None) -> float | None:
        """Of the worst sum so far, as a share of its largest entry; None: there was no sum.

        Args:
            own: the same rows before they were encoded, one for each client.
            live: coordinates of ``own`` that were; None: all.
        """
        apart = (_apart(own, live, weights, self._points.decode(found)) for weights, found in self._seen)
        return max(apart, default=None)


def _apart(
    rows: Sequence[Float[Tensor, " all"]], live: Bool[Tensor, " all"] | None, weights: list[int],
    found: Float[Tensor, " sent"],
) -> float:  # fmt: skip
    exact = torch.zeros(len(found), dtype=torch.float64)
    for weight, row in zip(weights, rows, strict=True):
        if weight:
            sent = row if live is None else row[live]
            exact += sent.double().cpu() * weight
    largest, apart = float(exact.abs().max()), float((found.cpu() - exact).abs().max())
    return apart / largest if largest > 0 else apart
