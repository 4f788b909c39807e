r"""Covariance-bound agnostic filter (CAF, Allouah et al. 2025): rows are weighed down along the leading direction.

From weights c = 1, while their sum is above n - 2f:

.. math:: \mu = \sum_k \frac{c_k}{\sum_l c_l} u_k, \quad
          (\lambda, v) = \text{leading eigenpair of } \sum_k \frac{c_k}{\sum_l c_l} (u_k - \mu)(u_k - \mu)^T, \quad
          \tau_k = \langle v, u_k - \mu \rangle^2, \quad c_k \leftarrow c_k (1 - \tau_k / \max_l \tau_l)

and the mean of the smallest eigenvalue is kept. Each time a row loses all its weight, so it ends. The eigenpair is that
of the rows' products, exactly, so it costs n³ whatever the model.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.defenses.aggregators.assuming import Assuming, gram
from autoflip_secure.interfaces import Aggregate, RoundView


def filtered(
    products: Float[Tensor, "rows rows"], malicious: int, weights: Float[Tensor, " rows"] | None = None
) -> Float[Tensor, " rows"]:
    """The weights of the mean that is kept, of sum 1.

    Args:
        products: of the rows' offsets from any point, in double.
        malicious: f.
        weights: c to begin with, not negative and not all 0; the share 2f/n of their sum may go. None: 1 for all.
    """
    n = len(products)
    weights = products.new_ones(n) if weights is None else weights.to(products)
    whole = float(weights.sum())
    best, least = weights / whole, torch.inf
    while float(weights.sum()) > (n - 2 * malicious) * (whole / n):
        share = weights / weights.sum()
        across = products @ share
        centred = products - across - across[:, None] + share @ across
        roots = share.sqrt()
        values, vectors = torch.linalg.eigh(roots[:, None] * centred * roots)
        if float(values[-1]) < least:
            best, least = share, float(values[-1])
        along = (centred @ (roots * vectors[:, -1])).square() * (weights > 0)
        largest = along.max()
        if not bool(largest > 0):  # what has weight is one point
            break
        weights = weights * (1 - along / largest)
    return best


class CAF(Assuming):
    """Mean of updates that are weighed down along the direction in which they vary most (Allouah et al. 2025)."""

    kind: Literal["caf"] = "caf"
    source: ClassVar[str] = (
        "Allouah et al. 2025 (CAF): c_k <- c_k (1 - tau_k / max tau) along the leading eigenvector, until sum c <= n-2f"
    )

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is the weights of the mean."""
        products = gram(view.directions).cpu()
        trust = filtered(products, self.malicious_among(view)).to(view.samples)
        return Aggregate(trust @ view.updates, trust, None, state)
