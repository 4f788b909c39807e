r"""Clipping: no row is longer than a bound.

.. math:: u_k \min(1, c / \|u_k\|)

With ``unit: median`` c is so many median norms of the round's rows, so that nothing has to be known of their scale.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import clip_factors, quantile
from autoflip_secure.interfaces import Mixture, PreAggregator, RowsView


def scaled(view: RowsView, factors: Tensor) -> Mixture:
    """Every row times its factor."""
    factors = factors.to(view.updates)
    return Mixture(view.updates * factors[:, None], factors.diag())


class Clip(PreAggregator):
    """Rows longer than a bound are scaled down to it."""

    kind: Literal["clip"] = "clip"
    source: ClassVar[str] = "Sun et al. 2019, norm clipping: u_k min(1, c / |u_k|)"
    norm: Annotated[float, Field(gt=0, le=1e12, description="c, the largest norm of a row, in `unit`")] = 1.0
    unit: Literal["median", "absolute"] = Field(
        default="median", description="c is in median norms of the round's rows, or a number as it is"
    )

    def mix(self, view: RowsView) -> Mixture:
        """Of each row alone, or beside the others."""
        norms = view.directions.norm(dim=1)
        bound = self.norm * quantile(norms, 0.5) if self.unit == "median" else self.norm
        return scaled(view, clip_factors(norms, bound))
