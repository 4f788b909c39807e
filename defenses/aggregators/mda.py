r"""Minimum-diameter averaging (MDA; Rousseeuw 1985, El Mhamdi et al. 2018): the mean of the tightest n - f rows.

.. math:: S = \arg\min_{|S| = n - f} \max_{k, l \in S} \|u_k - u_l\|, \qquad \Delta = \frac{1}{n-f} \sum_{k \in S} u_k

Exact: every subset is looked at. Several often have the same diameter, since two subsets can share their farthest
pair; of these the one of the smallest summed squared distance is taken, so that the order of the clients is nothing.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from autoflip_secure.algorithm.order_statistics import squared_distances
from autoflip_secure.defenses.aggregators.assuming import OverSubsets, even_trust, subsets
from autoflip_secure.interfaces import Aggregate, RoundView


class MDA(OverSubsets):
    """Mean of the n-f updates of smallest diameter (El Mhamdi et al. 2018); exact, so for small cohorts."""

    kind: Literal["mda"] = "mda"
    source: ClassVar[str] = "El Mhamdi et al. 2018 (MDA): mean of the n - f rows whose largest distance is smallest"

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is even in the subset."""
        n = len(view.updates)
        distances, every = squared_distances(view.directions).cpu().numpy(), subsets(n, n - self.malicious_among(view))
        widest, total = np.zeros(len(every)), np.zeros(len(every))
        for one, other in combinations(range(every.shape[1]), 2):
            apart = distances[every[:, one], every[:, other]]
            np.maximum(widest, apart, out=widest)
            total += apart
        total[widest > widest.min()] = np.inf
        chosen = torch.from_numpy(every[total.argmin()]).to(view.updates.device)
        trust = even_trust(chosen, view.samples)
        return Aggregate(trust @ view.updates, trust, None, state)
