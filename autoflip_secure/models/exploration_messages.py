r"""What an explorer sends up, made shorter: half precision, the largest deviations of each tensor alone, or both.

    header (20 bytes: magic, version, bits of a number, coordinates, values, scale)  |  bits  |  values, little endian

Half precision (``bits`` 16) carries :math:`d_j / \max_i |d_i|`, so that no deviation is too large or too small for it
as a whole: a number is off by at most :math:`2^{-11}` of itself or :math:`2^{-25}` of the largest. With a ``share``
below 1 every hidden weight tensor has its :math:`\lceil \text{share} \cdot n \rceil` deviations of largest size, and
the server takes the others as zero; *bits* tell which they are, one per prunable weight. Biases, normalisation, the
output layer and the first convolution always travel whole.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.models.layout import Layout

_HEADER = struct.Struct("<4sBBxxIIf")  # magic, version, bits of a number, coordinates, values, scale
_MAGIC, _VERSION = b"AFLE", 1


def largest_deviations(row: Float[Tensor, " params"], layout: Layout, share: float) -> Bool[Tensor, " params"]:
    """Which of a row's coordinates travel: of equal sizes the first ones. NaN and infinity are the largest of all."""
    chosen = layout.sent.to(row.device).clone()
    for segment in layout.hidden:
        sizes = torch.nan_to_num(row[segment.slice].abs(), nan=torch.inf)
        chosen[segment.slice] = False
        best = sizes.argsort(descending=True, stable=True)[: math.ceil(share * len(sizes))]
        chosen[segment.start + best] = True
    return chosen


def shortened(
    rows: Float[Tensor, "explorers params"], layout: Layout, bits: int, share: float
) -> Float[Tensor, "explorers params"]:
    """Rows as the server has them once they have travelled: ``rows`` themselves at 32 bits and a share of 1.

    Rows that are not finite stay so.
    """
    if bits == 32 and share == 1:
        return rows
    found = torch.empty_like(rows)
    for number, row in enumerate(rows):  # one at a time: memory, with many explorers of a large model
        chosen = row * largest_deviations(row, layout, share) if share < 1 else row
        scale = _scale(chosen)
        found[number] = (chosen / scale).half().to(row) * scale if bits == 16 else chosen
    return found


def _scale(row: Tensor) -> Tensor:
    largest = row.abs().max()
    return torch.where(largest > 0, largest, 1.0)


def encode_deviation(row: Float[Tensor, " params"], layout: Layout, bits: int, share: float) -> bytes:
    """The message that carries a row."""
    chosen = largest_deviations(row, layout, share)
    values = row[chosen].detach().cpu()
    scale = _scale(row[chosen]).cpu() if bits == 16 else torch.tensor(1.0)
    body = (values / scale).numpy().astype("<f2") if bits == 16 else values.numpy().astype("<f4", copy=False)
    told = np.packbits(chosen[layout.prunable.to(row.device)].cpu().numpy()).tobytes() if share < 1 else b""
    return _HEADER.pack(_MAGIC, _VERSION, bits, layout.size, len(values), float(scale)) + told + body.tobytes()


def decode_deviation(payload: bytes, layout: Layout, share: float) -> Float[Tensor, " params"]:
    """Inverse of :func:`encode_deviation`, within what its numbers can carry; zero where nothing travelled.

    Raises:
        InputError: it is no such message, is about another model, or has another length than its header promises.
    """
    if len(payload) < _HEADER.size or payload[:4] != _MAGIC:
        raise InputError(f"message of {len(payload)} bytes is not one of an explorer; use decode for weights")
    _, version, bits, coordinates, count, scale = _HEADER.unpack_from(payload)
    prunable = layout.prunable.cpu()
    packed = (int(prunable.sum()) + 7) // 8 if share < 1 else 0
    if version != _VERSION or bits not in (16, 32) or coordinates != layout.size:
        raise InputError(
            f"message of version {version}, {bits} bits and {coordinates} coordinates does not fit: expected version "
            f"{_VERSION}, 16 or 32 bits and {layout.size} coordinates"
        )
    if len(payload) != _HEADER.size + packed + count * bits // 8:
        raise InputError(f"message of {len(payload)} bytes is damaged: its header promises {count} numbers")
    chosen = layout.sent.cpu().clone()
    if share < 1:
        told = np.unpackbits(np.frombuffer(payload, np.uint8, packed, _HEADER.size), count=int(prunable.sum()))
        chosen[prunable] = torch.from_numpy(told.astype(bool))
    if int(chosen.sum()) != count:
        raise InputError(f"message has {count} numbers for {int(chosen.sum())} coordinates; it is damaged")
    body = np.frombuffer(payload, "<f2" if bits == 16 else "<f4", count, _HEADER.size + packed).astype(np.float32)
    row = torch.zeros(layout.size)
    row[chosen] = torch.from_numpy(body) * scale
    return row


def deviation_bytes(layout: Layout, explorers: int, bits: int, share: float) -> int:
    """What so many explorers send up, all together."""
    return explorers * len(encode_deviation(torch.zeros(layout.size), layout, bits, share))
