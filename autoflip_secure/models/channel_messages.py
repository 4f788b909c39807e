"""What a client sends besides its update, as a message.

    header (10 bytes: magic, version, bits of a number, numbers)  |  numbers

Numbers are 0 or 1 in one bit each, half precision or single precision, little endian.
"""

from __future__ import annotations

import struct

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.errors import InputError

_HEADER = struct.Struct("<4sBBI")
_MAGIC, _VERSION = b"AFLC", 1


def encode_channel(row: Float[Tensor, " size"], bits: int) -> bytes:
    """The message that carries a client's row of a channel."""
    values = row.detach().cpu().numpy()
    if bits == 1:
        body = np.packbits(values > 0.5).tobytes()
    else:
        body = values.astype("<f2" if bits == 16 else "<f4", copy=False).tobytes()
    return _HEADER.pack(_MAGIC, _VERSION, bits, len(row)) + body


def decode_channel(payload: bytes) -> Float[Tensor, " size"]:
    """Inverse of :func:`encode_channel`, within what its bits can carry.

    Raises:
        InputError: it is no such message, or has another length than its header promises.
    """
    if len(payload) < _HEADER.size or payload[:4] != _MAGIC:
        raise InputError(f"message of {len(payload)} bytes is not one of a channel; use decode for weights")
    _, version, bits, size = _HEADER.unpack_from(payload)
    body = payload[_HEADER.size :]
    if version != _VERSION or bits not in (1, 16, 32) or len(body) != (size * bits + 7) // 8:
        raise InputError(
            f"message of {len(payload)} bytes is damaged: {size} numbers of {bits} bits, version {version}"
        )
    if bits == 1:
        return torch.from_numpy(np.unpackbits(np.frombuffer(body, np.uint8), count=size).astype(np.float32))
    return torch.from_numpy(np.frombuffer(body, "<f2" if bits == 16 else "<f4").astype(np.float32))


def channel_bytes(size: int, bits: int, clients: int) -> int:
    """One round: each participant sends its row of a channel."""
    return clients * len(encode_channel(torch.zeros(size), bits))
