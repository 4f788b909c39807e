"""Randomness by address: every draw has a purpose, a round and a client, so adding one draw never shifts another.

Algorithms compared at one seed therefore see the same partition, initial weights, cohorts, batches and malicious
clients.

What a privacy guarantee rests on is not shared: see :class:`PrivateDraws`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import overload

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
    TUNING = 23
    FROZEN_WEIGHTS = 30
    MASK_DRAWS = 31
    AUGMENTATION = 32


def _sequence(seed: int, address: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in address))


def generator(seed: int, *address: int) -> torch.Generator:
    """A torch generator (CPU) for the draw at ``address`` = (purpose, round, client, …), each word >= 0.

    >>> a, b = generator(7, Purpose.COHORT, 3), generator(7, Purpose.COHORT, 3)
    >>> bool((torch.randperm(9, generator=a) == torch.randperm(9, generator=b)).all())
    True
    """
    return torch.Generator().manual_seed(int(_sequence(seed, address).generate_state(1, np.uint64)[0] >> 1))


class Generators(Sequence[torch.Generator]):
    """:func:`generator` at one address after the other, each made when it is asked for, and the same one from then on.

    To make one takes longer than most draws from it, and most of those that are offered are never drawn from. A slice,
    or a selection, is a sequence of its own: its generators begin anew.

    >>> addresses = [(Purpose.UPDATE_ATTACK, 1, client) for client in range(3)]
    >>> two = Generators(7, addresses)[1:]
    >>> len(two), two[0] is two[0], two[0].initial_seed() == generator(7, *addresses[1]).initial_seed()
    (2, True, True)
    """

    def __init__(self, seed: int, addresses: Sequence[tuple[int, ...]]) -> None:
        self._seed, self._addresses = seed, tuple(addresses)
        self._made: dict[int, torch.Generator] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    @overload
    def __getitem__(self, place: int) -> torch.Generator: ...
    @overload
    def __getitem__(self, place: slice) -> Generators: ...
    def __getitem__(self, place: int | slice) -> torch.Generator | Generators:
        if isinstance(place, slice):
            return Generators(self._seed, self._addresses[place])
        place = range(len(self))[place]
        if place not in self._made:
            self._made[place] = generator(self._seed, *self._addresses[place])
        return self._made[place]

    def of(self, places: slice | Sequence[int]) -> Generators:
        """Those at ``places``, not drawn from yet."""
        if isinstance(places, slice):
            return self[places]
        return Generators(self._seed, [self._addresses[place] for place in places])


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
