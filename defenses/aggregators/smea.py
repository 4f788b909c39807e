r"""Smallest maximum eigenvalue averaging (SMEA, Allouah et al. 2023): the mean of the n - f rows of least variance.

.. math:: S = \arg\min_{|S| = n - f} \lambda_{\max}\Big(\frac{1}{|S|} \sum_{k \in S}
          (u_k - \bar u_S)(u_k - \bar u_S)^T\Big)

The eigenvalue is that of the centred products of the rows, so it costs (n - f)³ whatever the model. Exact: every
subset is looked at; of equal ones the first in lexicographic order is taken.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.defenses.aggregators.assuming import OverSubsets, even_trust, gram, subsets
from autoflip_secure.interfaces import Aggregate, RoundView

_AT_ONCE = 2**20  # entries of matrices in memory


def largest_eigenvalues(products: Float[Tensor, "rows rows"], every: Tensor) -> Float[Tensor, " subsets"]:
    """Of the covariance of each subset of rows, whose places are in ``every`` (subsets, size)."""
    size, found = every.shape[1], []
    for some in every.split(max(1, _AT_ONCE // size**2)):  # type: ignore[no-untyped-call]
        own = products[some[:, :, None], some[:, None, :]]
        mean = own.mean(1, keepdim=True)
        centred = own - mean - mean.mT + mean.mean(2, keepdim=True)
        found.append(torch.linalg.eigvalsh(centred)[:, -1] / size)
    return torch.cat(found)


class SMEA(OverSubsets):
    """Mean of the n-f updates that vary least along any direction (Allouah et al. 2023); exact, for small cohorts."""

    kind: Literal["smea"] = "smea"
    source: ClassVar[str] = (
        "Allouah et al. 2023 (SMEA): mean of the n - f rows whose covariance has the smallest largest eigenvalue"
    )

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is even in the subset."""
        n = len(view.updates)
        products = gram(view.directions).cpu()
        every = torch.from_numpy(subsets(n, n - self.malicious_among(view)))
        chosen = every[largest_eigenvalues(products, every).argmin()].to(view.updates.device)
        trust = even_trust(chosen, view.samples)
        return Aggregate(trust @ view.updates, trust, None, state)
