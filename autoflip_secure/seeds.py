"""Randomness by address: every draw has a purpose, a round and a client, so adding one draw never shifts another.

Algorithms compared at one seed therefore see the same partition, initial weights, cohorts, batches and bad clients.
"""

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """First word of an address. Numbers are part of the record format: append, never renumber."""

    PARTITION = 0
    INITIAL_WEIGHTS = 1
    COHORT = 2
    BATCHES = 3
    BAD_CLIENTS = 4
    DATA_ATTACK = 5
    UPDATE_ATTACK = 6
    PRUNING = 7
    EXPLORERS = 8
    DATA_SUBSET = 9
    FORWARD = 10
    POISSON = 11
    DP_NOISE = 12
    CANARIES = 13
    AUDIT = 14
    SERVER_NOISE = 15
    SECURE_CHECKS = 16


def _sequence(seed: int, address: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in address))


def generator(seed: int, *address: int) -> torch.Generator:
    """A torch generator (CPU) for the draw at ``address`` = (purpose, round, client, …), each word >= 0.

    >>> a, b = generator(7, Purpose.COHORT, 3), generator(7, Purpose.COHORT, 3)
    >>> bool((torch.randperm(9, generator=a) == torch.randperm(9, generator=b)).all())
    True
    """
    return torch.Generator().manual_seed(int(_sequence(seed, address).generate_state(1, np.uint64)[0] >> 1))


def numpy_generator(seed: int, *address: int) -> np.random.Generator:
    """The same idea for numpy: an independent stream for the draw at ``address``."""
    return np.random.default_rng(_sequence(seed, address))
