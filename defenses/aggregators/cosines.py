"""Cosines between rows in double, each to its own last digits, however long other rows are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import column_blocks


def products(
    rows: Float[Tensor, "rows params"], others: Float[Tensor, "others params"]
) -> Float[Tensor, "rows others"]:
    """<x_k, y_l> in double, in blocks of columns."""
    found = rows.new_zeros(len(rows), len(others), dtype=torch.float64)
    for block in column_blocks(rows):
        found += rows[:, block].double() @ others[:, block].double().T
    return found


def squared_norms(rows: Float[Tensor, "rows params"]) -> Float[Tensor, " rows"]:
    """||x_k||² in double."""
    found = rows.new_zeros(len(rows), dtype=torch.float64)
    for block in column_blocks(rows):
        found += rows[:, block].double().square().sum(1)
    return found


def cosines(gram: Float[Tensor, "rows rows"]) -> Float[Tensor, "rows rows"]:
    """Cosines of rows from their products with each other; 0 where either row is zero.

    >>> cosines(torch.tensor([[4.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))[0]
    tensor([1.0000, 0.5000, 0.0000])
    """
    norms = gram.diagonal().sqrt()
    scales = norms[:, None] * norms
    return torch.where(scales > 0, gram / scales.where(scales > 0, 1.0), 0.0).clamp(-1, 1)
