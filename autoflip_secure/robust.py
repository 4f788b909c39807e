"""Order statistics on rows: medians, quantiles and cosines that the scores are made of."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-12


def ascending(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x`` sorted along its first dimension, NaN last. On the CPU by numpy, whose sort is several times as fast."""
    if x.device.type != "cpu":
        return x.sort(dim=0).values
    return torch.from_numpy(np.sort(x.detach().numpy(), axis=0))


def quantile(x: Float[Tensor, " n"], q: float) -> Float[Tensor, ""]:
    """Linearly interpolated quantile of the entries that are not NaN; NaN when there is none. Any length.

    >>> float(quantile(torch.tensor([0.0, 1.0, float("nan"), 3.0]), 0.5))
    1.0
    """
    x = ascending(x[~x.isnan()])
    if len(x) == 0:
        return torch.tensor(torch.nan, device=x.device)
    position = q * (len(x) - 1)
    low = int(position)
    high = min(low + 1, len(x) - 1)
    return x[low] + (x[high] - x[low]) * (position - low)


def median_rows(rows: Float[Tensor, "rows params"]) -> Float[Tensor, " params"]:
    """Coordinate-wise median over rows; the mean of the middle two when their number is even.

    Sorted in blocks of columns, so that many rows of a large model need little memory beside their own.
    """
    n, width = rows.shape
    step = max(1, 2**20 // n)
    blocks = []
    for start in range(0, width, step):
        ordered = ascending(rows[:, start : start + step])
        blocks.append((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    return torch.cat(blocks)


def mad(x: Float[Tensor, " n"], centre: Tensor) -> Float[Tensor, ""]:
    """1.4826 · median |x - centre|: a standard deviation that outliers do not move (consistent for Gaussian data)."""
    return 1.4826 * quantile((x - centre).abs(), 0.5)


def cosine(rows: Float[Tensor, "rows params"], reference: Float[Tensor, "*rows params"]) -> Float[Tensor, " rows"]:
    """Cosine of each row with ``reference`` (one vector, or one per row); 0 where either is zero."""
    product: Tensor = rows @ reference if reference.dim() == 1 else (rows * reference).sum(-1)
    norms: Tensor = rows.norm(dim=-1) * reference.norm(dim=-1)
    return product / norms.clamp_min(TINY)
