r"""Geometric median (Pillutla et al. 2022, RFA), by the smoothed Weiszfeld algorithm.

.. math:: v \leftarrow \sum_k \beta_k u_k, \quad \beta_k \propto n_k / \max(\nu, \|v - u_k\|)
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView


class GeometricMedian(Aggregator):
    """Point with the smallest summed distance to the updates, by smoothed Weiszfeld steps (Pillutla et al. 2022)."""

    kind: Literal["geometric_median"] = "geometric_median"
    smoothing: Annotated[float, Field(gt=0, le=1e12, description="nu: distances below it count as it")] = 1e-6
    steps: Annotated[int, Field(ge=1, le=10_000, description="Weiszfeld steps")] = 8

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is the weights of the last step."""
        trust = view.samples / view.samples.sum()
        share, rows = trust, view.directions
        for _ in range(self.steps):
            distances = (rows - trust @ rows).norm(dim=1).clamp_min(self.smoothing)
            trust = share / distances
            trust = trust / trust.sum()
        return Aggregate(trust @ view.updates, trust, None, state)
