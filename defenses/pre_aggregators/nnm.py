r"""Nearest-neighbour mixing (NNM, Allouah et al. 2023): every row becomes the mean of the rows nearest to it.

.. math:: y_k = \frac{1}{n-f} \sum_{l \in N_k} u_l, \qquad N_k = \text{the } n - f \text{ rows nearest to } u_k

k itself is among them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from autoflip_secure.algorithm.order_statistics import squared_distances
from autoflip_secure.interfaces import AssumingPreAggregator, Mixture, RowsView


class NNM(AssumingPreAggregator):
    """Nearest-neighbour mixing: every row becomes the mean of the n-f rows nearest to it, itself among them."""

    kind: Literal["nnm"] = "nnm"
    source: ClassVar[str] = "Allouah et al. 2023 (NNM): y_k = mean of the n - f rows nearest to u_k, itself included"

    def mix(self, view: RowsView) -> Mixture:
        """Among equally near rows those of the first clients; a row is always among its own."""
        n = len(view.updates)
        distances = squared_distances(view.directions).fill_diagonal_(-1)
        nearest = distances.argsort(dim=1, stable=True)[:, : n - view.malicious]
        mixing = torch.zeros_like(distances).scatter_(1, nearest, 1 / nearest.shape[1]).to(view.updates)
        return Mixture(mixing @ view.updates, mixing)
