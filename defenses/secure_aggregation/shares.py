r"""Additive secret sharing: a client splits its row so that any parties but all of them together hold noise.

.. math:: x = \sum_{i=1}^{n} s_i \bmod 2^{64}, \quad s_1, \dots, s_{n-1} \text{ uniform}, \quad
          s_n = x - \sum_{i<n} s_i

Each uniform share travels as the key that it is expanded from, 32 fresh bytes of the operating system's generator (as
masks do in Bonawitz et al. 2017): the keystream of AES-256 in counter mode, which nobody without the key can tell from
uniform. So a client sends one number per value and 32 bytes per other party, whatever the number of parties. No key is
used twice, and shares differ from run to run; sums of them do not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

KEY_BYTES: Final = 32
_BLOCK: Final = 16  # bytes, of AES
_ZEROS: Final = bytes(1 << 20)


@dataclass(frozen=True)
class Seed:
    """``count`` ring elements as the key that they are expanded from."""

    key: bytes
    count: int

    @classmethod
    def fresh(cls, count: int) -> Seed:
        """With a key from the operating system."""
        return cls(os.urandom(KEY_BYTES), count)

    def words(self) -> Int[Tensor, " count"]:
        """The elements.

        Raises:
            ValueError: the key has another length.
        """
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        if len(self.key) != KEY_BYTES:
            raise ValueError(f"a key of {len(self.key)} bytes, not {KEY_BYTES}")
        stream = Cipher(algorithms.AES(self.key), modes.CTR(bytes(_BLOCK))).encryptor()
        size = 8 * self.count
        found = bytearray(size + _BLOCK)  # the cipher wants room for a block more
        with memoryview(found) as room:
            for start in range(0, size, len(_ZEROS)):
                zeros = _ZEROS if size - start >= len(_ZEROS) else _ZEROS[: size - start]
                stream.update_into(zeros, room[start : start + len(zeros) + _BLOCK])
        return torch.from_numpy(np.frombuffer(found, "<i8", self.count).astype(np.int64, copy=False))


Share = Seed | Tensor
"""What one party gets: a key, or the elements themselves (params,)."""


def uniform(count: int) -> Int[Tensor, " count"]:
    """``count`` uniform elements of the ring."""
    return Seed.fresh(count).words()


def opened(share: Share) -> Int[Tensor, " params"]:
    """The elements of a share."""
    return share.words() if isinstance(share, Seed) else share


def split(row: Int[Tensor, " params"], parties: int) -> list[Share]:
    """One share per party; they sum to ``row`` modulo 2^64. The last one is sent in full."""
    seeds = [Seed.fresh(len(row)) for _ in range(parties - 1)]
    last = row.clone()
    for seed in seeds:
        last -= seed.words()
    return [*seeds, last]


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
