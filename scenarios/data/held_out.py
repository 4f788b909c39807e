"""Rows of each client's own that nobody trains on, for personal evaluation.

LotteryFL and LEAF test a client on rows of its own too. Which ones is drawn for each client at an address of its own,
so that another client, or another algorithm at the same seed, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.seeds import Purpose, generator

Rows = tuple[Int[Tensor, " _"], ...]


def hold_out(clients: Sequence[Int[Tensor, " _"]], share: float, seed: int) -> tuple[Rows, Rows]:
    """What each client trains on, and what it is tested on: round(share · n) of its n rows, at least one of each.

    Args:
        clients: rows of the training set that each client owns.
        share: in (0, 1).
        seed: rows are drawn at (HELD_OUT, client) of it; both parts keep the order of ``clients``.

    Raises:
        InputError: a client has one row, which cannot be both.
    """
    kept, held = [], []
    for client, rows in enumerate(clients):
        if len(rows) < 2:
            raise InputError(
                f"client {client} has {len(rows)} of the rows, and evaluation: personal needs one to train on and one "
                "to test on; choose another partition, fewer clients or more rows, or evaluation: global"
            )
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        chosen = torch.zeros(len(rows), dtype=torch.bool)
        chosen[torch.randperm(len(rows), generator=generator(seed, Purpose.HELD_OUT, client))[:count]] = True
        kept.append(rows[~chosen])
        held.append(rows[chosen])
    return tuple(kept), tuple(held)
