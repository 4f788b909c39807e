"""Randomness by address: every draw has a purpose, a round and a client, so adding one draw never shifts another.

Algorithms compared at one seed therefore see the same partition, initial weights, cohorts, batches and malicious
clients.

What a privacy guarantee rests on is not shared: see :class:`PrivateDraws`.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """First word of an address. Numbers are part of the record format: append, never renumber."""

    PARTITION = 0
    INITIAL_WEIGHTS = 1
    COHORT = 2
    BATCHES = 3
    MALICIOUS_CLIENTS = 4
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
    EVALUATION = 17
    LOCAL_RULE = 18
    HELD_OUT = 19
    CLIENT_MASK = 20
    AGGREGATION = 21
    PRE_AGGREGATION = 22


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


@dataclass(frozen=True)
class PrivateDraws:
    """The private draws of one run of one cell: noise, Poisson batches, cohorts that an observer must not know.

    Releases compose only if their noise is independent. So the key is that of the cell (what is released) and of the
    conditions that it runs under (software, processor, data): the same cell under the same conditions repeats its
    releases bit for bit, and whatever else is released, by another cell of the sweep or another attempt, has noise of
    its own. Each address gets a Philox generator (Salmon et al. 2011) whose key and counter, 384 bits, are SHA-512 of
    key and address; normal numbers are drawn in double precision, so that their tails end beyond 13 standard
    deviations. Who knows the seed can repeat all of it, and small seeds can be searched; 63 random bits cannot, in
    practice.

    With ``system`` noise and batches come from keys of the operating system that are used once and kept nowhere.
    """

    key: bytes = field(repr=False)
    system: bool = False

    @classmethod
    def of(cls, seed: int, *parts: str, system: bool = False) -> PrivateDraws:
        """The draws of a seed and of whatever makes a release another release."""
        digest = hashlib.sha256()
        for part in (str(int(seed)), *parts):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
        return cls(digest.digest(), system)

    def generator(self, *address: int) -> np.random.Generator:
        """Noise or batches at ``address`` = (purpose, round, client, …), each word >= 0; drawn once."""
        return _philox(secrets.token_bytes(48)) if self.system else self.agreed(*address)

    def agreed(self, *address: int) -> np.random.Generator:
        """The same, from the key whatever the source: for cohorts, which training and ledger have to know alike."""
        words = b"".join(int(word).to_bytes(8, "big") for word in address)
        return _philox(hashlib.sha512(self.key + words).digest())


def _philox(state: bytes) -> np.random.Generator:
    words = np.frombuffer(state[:48], dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=words[:2], counter=words[2:]))
