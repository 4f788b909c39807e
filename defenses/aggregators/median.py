"""Coordinate-wise median and trimmed mean (Yin et al. 2018): order statistics instead of a mean, every client alike."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from autoflip_secure.algorithm.order_statistics import median_rows, ranked
from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView
from autoflip_secure.interfaces.known_attacks import OF_COORDINATES, Known


class Median(Aggregator):
    """Coordinate-wise median of the updates (Yin et al. 2018)."""

    kind: Literal["median"] = "median"
    source: ClassVar[str] = "Yin et al. 2018, Definition 1: the median of every coordinate"
    known_by: ClassVar[Known] = OF_COORDINATES

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is even, since every client may set some coordinate."""
        n = len(view.updates)
        return Aggregate(median_rows(view.updates), view.samples.new_full((n,), 1 / n), None, state)


class TrimmedMean(Aggregator):
    """Coordinate-wise mean without the largest and smallest values (Yin et al. 2018)."""

    kind: Literal["trimmed_mean"] = "trimmed_mean"
    source: ClassVar[str] = "Yin et al. 2018, Definition 2: per coordinate the mean without f largest and f smallest"
    known_by: ClassVar[Known] = OF_COORDINATES
    assumes_malicious: ClassVar[bool] = True
    bad_share: Annotated[float, Field(ge=0, lt=0.5, description="share of the cohort cut at each end")] = 0.2

    def assumed(self, rows: int) -> int:
        """As many as are cut at each end, so that at least one is left."""
        return min(round(self.bad_share * rows), (rows - 1) // 2)

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; at least one value is left in each coordinate."""
        n, cut = len(view.updates), self.malicious_among(view)
        left = ranked(view.updates, cut, n - cut)
        return Aggregate(left.mean(0), view.samples.new_full((n,), 1 / n), None, state)
