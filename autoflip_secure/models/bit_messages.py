"""A message of bits and numbers: what travels where masks are trained.

    header (13 bytes: magic, version, bits, numbers)  |  bits, eight to a byte  |  numbers, float32, little endian

Both sides know which coordinates they are of, from the layout, the roles of its tensors and what a client holds.
"""

from __future__ import annotations

import struct

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import InputError

_HEADER = struct.Struct("<4sBII")
_MAGIC, _VERSION = b"AFLB", 1


def encode_bits(bits: Bool[Tensor, " bits"], numbers: Float[Tensor, " numbers"]) -> bytes:
    """The message that carries them."""
    packed = np.packbits(bits.detach().cpu().numpy()).tobytes()
    values = numbers.detach().cpu().numpy().astype("<f4", copy=False)
    return _HEADER.pack(_MAGIC, _VERSION, len(bits), len(values)) + packed + values.tobytes()


def decode_bits(payload: bytes) -> tuple[Bool[Tensor, " bits"], Float[Tensor, " numbers"]]:
    """Inverse of :func:`encode_bits`. Every message that is one has bits that are 0 or 1: it can carry nothing else.

    Raises:
        InputError: it is no such message, or has another length than its header promises.
    """
    if len(payload) < _HEADER.size or payload[:4] != _MAGIC:
        raise InputError(f"message of {len(payload)} bytes is not one of bits; use decode for weights")
    _, version, bits, numbers = _HEADER.unpack_from(payload)
    packed = (bits + 7) // 8
    if version != _VERSION or len(payload) != _HEADER.size + packed + 4 * numbers:
        raise InputError(
            f"message of {len(payload)} bytes is damaged: {bits} bits and {numbers} numbers, version {version}"
        )
    found = np.unpackbits(np.frombuffer(payload, np.uint8, packed, _HEADER.size), count=bits)
    values = np.frombuffer(payload, "<f4", numbers, _HEADER.size + packed).astype(np.float32)
    return torch.from_numpy(found.astype(bool)), torch.from_numpy(values)


def bit_bytes(bits: int, numbers: int) -> int:
    """Bytes of a message of so many."""
    return len(encode_bits(torch.zeros(bits, dtype=torch.bool), torch.zeros(numbers)))
