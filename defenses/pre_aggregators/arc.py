r"""Adaptive robust clipping (ARC, Allouah et al. 2025): the longest rows are clipped to the next longest.

.. math:: k = \lfloor 2 (f/n)(n-f) \rfloor, \qquad u_i \min(1, c / \|u_i\|), \quad c = \text{the (k+1)-th largest norm}
"""

from __future__ import annotations

from typing import ClassVar, Literal

from autoflip_secure.algorithm.order_statistics import clip_factors
from autoflip_secure.defenses.pre_aggregators.clip import scaled
from autoflip_secure.interfaces import AssumingPreAggregator, Mixture, RowsView


class ARC(AssumingPreAggregator):
    """Adaptive robust clipping: the floor(2 (f/n) (n-f)) longest rows are clipped to the next one's norm."""

    kind: Literal["arc"] = "arc"
    source: ClassVar[str] = (
        "Allouah et al. 2025 (ARC): the k = floor(2 (f/n) (n-f)) longest rows are clipped to the (k+1)-th largest norm"
    )

    def mix(self, view: RowsView) -> Mixture:
        """k is below n, since k <= n/2."""
        n, f = len(view.updates), view.malicious
        clipped = 2 * f * (n - f) // n
        norms = view.directions.norm(dim=1)
        return scaled(view, clip_factors(norms, norms.sort(descending=True).values[clipped]))
