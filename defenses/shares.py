r"""Additive secret sharing: a client splits its row so that any parties but all of them together hold noise.

.. math:: x = \sum_{i=1}^{n} s_i \bmod 2^{64}, \quad s_1, \dots, s_{n-1} \text{ uniform}, \quad
          s_n = x - \sum_{i<n} s_i

Randomness is the operating system's, not a seeded generator's: who knew a seed would know the row. Shares therefore
differ from run to run; sums of them do not.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def uniform(count: int) -> Int[Tensor, " count"]:
    """``count`` uniform elements of the ring, from the operating system."""
    return torch.from_numpy(np.frombuffer(bytearray(os.urandom(8 * count)), dtype=np.int64))


def split(row: Int[Tensor, " params"], parties: int) -> list[Int[Tensor, " params"]]:
    """One share per party; they sum to ``row`` modulo 2^64."""
    shares = [uniform(len(row)) for _ in range(parties - 1)]
    last = row.clone()
    for share in shares:
        last -= share
    return [*shares, last]


def square_pair(width: int, starts: list[int]) -> tuple[Int[Tensor, " width"], Int[Tensor, " groups"]]:
    r"""What a client deals so that the parties can square its row (Beaver 1991): r uniform, and :math:`\|r_g\|^2`.

    The client is the dealer because it learns nothing by it, while any party that dealt would learn the row from what
    is opened. A client that deals a wrong square shifts its own squared norm, and nothing else.

    Args:
        width: entries of what is squared.
        starts: first entry of each group, ascending; a group that starts where the next one does is empty.
    """
    mask = uniform(width)
    squares = torch.cat([mask.new_zeros(1), (mask * mask).cumsum(0)])
    ends = torch.tensor([*starts[1:], width])
    return mask, squares[ends] - squares[torch.tensor(starts, dtype=torch.long)]
