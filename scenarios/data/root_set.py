"""A clean root set for the server, taken out of the clients' shares: for defences that hold clients against clean data.

It is drawn from the *training* data, uniformly, as Cao et al. (2021) draw theirs: test data are never touched, and data
sets have no third part. What the server owns no client owns: the rows are taken out of the shares of the clients, who
all keep one at least, so nobody's data are with the server, and no row is trained on twice. The split itself is as it
is without a root set, so another algorithm at the same seed has the same clients with a few rows more.
"""

from __future__ import annotations

from collections import Counter

import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.data.held_out import Rows
from autoflip_secure.seeds import Purpose, generator

OF_SERVER = 2**32 - 1  # the server's place in addresses, where the number of a client stands


def take_root(clients: Rows, held_out: Rows, total: int, count: int, seed: int) -> tuple[Rows, Int[Tensor, " r"]]:
    """What each client keeps, and the root set, in ascending order.

    Args:
        clients: rows of the training set that each client trains on.
        held_out: rows that each client is tested on, which stay theirs; () where none is.
        total: rows of the training set.
        count: of the root set.
        seed: rows are drawn at (HELD_OUT, :data:`OF_SERVER`) of it; a smaller set is part of a larger one.

    Raises:
        InputError: there are not so many rows beside one for each client.
    """
    free = torch.ones(total, dtype=torch.bool)
    owner = torch.full((total,), -1, dtype=torch.long)
    for rows in held_out:
        free[rows] = False
    for client, rows in enumerate(clients):
        owner[rows] = client
    left, root = Counter({client: len(rows) for client, rows in enumerate(clients)}), list[int]()
    for row in torch.randperm(total, generator=generator(seed, Purpose.HELD_OUT, OF_SERVER)).tolist():
        client = int(owner[row])
        if len(root) == count:
            break
        if not bool(free[row]) or (client >= 0 and left[client] == 1):
            continue
        left[client] -= 1
        root.append(row)
    if len(root) < count:
        raise InputError(
            f"algorithm.aggregator.root_samples = {count}: of the {total} rows of the training set {len(root)} can be "
            "the server's, with one left for each client to train on; lower it, or give more data"
        )
    taken = torch.zeros(total, dtype=torch.bool)
    taken[root] = True
    return tuple(rows[~taken[rows]] for rows in clients), taken.nonzero().squeeze(1)
