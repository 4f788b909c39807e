r"""Geometric median (Pillutla et al. 2022, RFA), by the smoothed Weiszfeld algorithm until it converges.

.. math:: v \leftarrow \sum_k \beta_k u_k, \quad \beta_k \propto n_k / \max(\nu, \|v - u_k\|)

It starts where rows count by their distance from one of median norm, so that long rows have no hold. It stands
still when the slope of the smoothed summed distance, :math:`\|\sum_k s_k (v - u_k) / \max(\nu, \|v - u_k\|)\|` with
shares :math:`s_k = n_k / \sum_l n_l`, is at most ``tolerance``: a number between 0 and 1 of which no row has more than
its share, so that no row decides when to stop.

The steps are taken on the products of the offsets from a centre c, in double, so they cost n² whatever the model:

.. math:: v = c + \sum_k \beta_k (u_k - c), \quad
          \|u_k - v\|^2 = g_{kk} - 2 (g\beta)_k + \beta^T g \beta, \quad g_{kl} = \langle u_k - c, u_l - c \rangle

Products with a long row stay beside its own small weight. Those of the others lose digits where c is far from v: where
rows are much farther from c than from the point that is found, that becomes the next centre, until a walk ends where it
began.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import column_blocks
from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView

_FAR = 1e6  # squared distance from the centre over that from the point, up to which products have digits to spare


def _products(rows: Float[Tensor, "clients params"], centre: Float[Tensor, " params"]) -> Float[Tensor, "rows rows"]:
    """g, in double."""
    found = rows.new_zeros(len(rows), len(rows), dtype=torch.float64)
    for block in column_blocks(rows):
        offsets = rows[:, block].double() - centre[block]
        found += offsets @ offsets.T
    return found


def _moved(
    rows: Float[Tensor, "clients params"], centre: Float[Tensor, " params"], weights: Float[Tensor, " clients"]
) -> Float[Tensor, " params"]:
    """c + sum of weights times offsets, in double."""
    return torch.cat([centre[b] + weights @ (rows[:, b].double() - centre[b]) for b in column_blocks(rows)])


def _squares(products: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Squared distance of every row from the weighted mean."""
    across = products @ weights
    found: np.ndarray = np.maximum(products.diagonal() - 2 * across + weights @ across, 0)
    return found


class GeometricMedian(Aggregator):
    """Point with the smallest summed distance to the updates, by smoothed Weiszfeld steps (Pillutla et al. 2022)."""

    kind: Literal["geometric_median"] = "geometric_median"
    source: ClassVar[str] = "Pillutla et al. 2022 (RFA): weights n_k / max(nu, |v - u_k|)"
    weighs_samples: ClassVar[bool] = True
    smoothing: Annotated[float, Field(gt=0, le=1e12, description="nu: smaller distances count as nu")] = 1e-6
    steps: Annotated[int, Field(ge=1, le=10_000, description="Weiszfeld steps, at most")] = 1000
    tolerance: Annotated[
        float, Field(gt=0, le=1, description="slope of the summed distance, 0 to 1, at which it stops")
    ] = 1e-6

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is the weights of the last step."""
        trust = self.weights(view.directions, view.samples).to(view.samples)
        return Aggregate(trust @ view.updates, trust, None, state)

    def weights(
        self, rows: Float[Tensor, "clients params"], samples: Float[Tensor, " clients"]
    ) -> Float[Tensor, " clients"]:
        """beta, in double: non-negative, of sum 1."""
        share = (samples.double() / samples.double().sum()).cpu().numpy()
        centre, left = rows[int(rows.norm(dim=1).argsort(stable=True)[(len(rows) - 1) // 2])].double(), self.steps
        products = _products(rows, centre).cpu().numpy()
        reach = np.sqrt(products.diagonal())
        start = share / np.maximum(reach, max(float(np.median(reach)), self.smoothing))  # the centre is a row itself
        start /= start.sum()
        while True:
            found, taken = self._walk(products, share, left, start)
            left -= taken
            weights, own = torch.from_numpy(found).to(rows.device), products.diagonal()
            exact = bool((own <= _FAR * _squares(products, found)).all())
            if taken == 1 or left == 0 or exact:
                return weights
            centre = _moved(rows, centre, weights)
            products, start = _products(rows, centre).cpu().numpy(), np.zeros_like(share)

    def _walk(self, products: np.ndarray, share: np.ndarray, most: int, weights: np.ndarray) -> tuple[np.ndarray, int]:
        """Steps until it stands still: the weights of the last one, and how many there were. Zeros: the centre."""
        step = 0
        while step < most:
            step += 1
            pull = share / np.maximum(np.sqrt(_squares(products, weights)), self.smoothing)
            before, weights = weights, pull / pull.sum()
            move = weights - before
            slope = pull.sum() * max(float(move @ products @ move), 0) ** 0.5
            if slope <= self.tolerance:
                break
        return weights, step
