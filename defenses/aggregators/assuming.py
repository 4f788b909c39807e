"""What rules share that assume a number f of malicious rows: the option, and subsets of n - f rows."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import column_blocks, median_rows
from autoflip_secure.interfaces import Aggregator

MOST_SUBSETS = 100_000


class Assuming(Aggregator):
    """An aggregator whose rule has an f, below half of the rows."""

    assumes_malicious: ClassVar[bool] = True
    bad_share: Annotated[float, Field(ge=0, lt=0.5, description="share of the cohort assumed malicious")] = 0.2

    def assumed(self, rows: int) -> int:
        """Rounded, and below half of them."""
        return min(round(self.bad_share * rows), max(rows - 1, 0) // 2)


class OverSubsets(Assuming):
    """One that looks at every subset of n - f rows."""

    def fault(self, rows: int, malicious: int) -> tuple[str, str] | None:
        """There may be too many of them."""
        count = comb(rows, malicious)
        if count <= MOST_SUBSETS:
            return None
        return "bad_share", (
            f"{self.bad_share:g}: of {rows} rows {malicious} are assumed malicious, which makes {count:.3g} subsets to "
            f"look at, more than the {MOST_SUBSETS:,} that are feasible; lower it, take a smaller cohort, or use "
            "multi_krum"
        )


@lru_cache(maxsize=4)
def subsets(rows: int, size: int) -> np.ndarray:
    """All subsets of ``size`` of the rows, (subsets, size), in lexicographic order."""
    found = np.fromiter((k for one in combinations(range(rows), size) for k in one), np.int64)
    return found.reshape(-1, size)


def gram(rows: Float[Tensor, "rows params"]) -> Float[Tensor, "rows rows"]:
    """Products of the rows' offsets from their coordinate-wise median, in double, where long rows have no hold."""
    found, centre = rows.new_zeros(len(rows), len(rows), dtype=torch.float64), median_rows(rows).double()
    for block in column_blocks(rows):
        offsets = rows[:, block].double() - centre[block]
        found += offsets @ offsets.T
    return found


def even_trust(chosen: Tensor, like: Float[Tensor, " clients"]) -> Float[Tensor, " clients"]:
    """Trust that is even among the chosen rows (their places), and 0 for the others."""
    trust = torch.zeros_like(like)
    trust[chosen] = 1 / len(chosen)
    return trust
