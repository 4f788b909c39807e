"""What is measured of a round: variances, bytes, digests, and the versions that numbers depend on."""

from __future__ import annotations

import hashlib
import platform
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import column_blocks
from autoflip_secure.models.amounts import Bytes, Flops
from autoflip_secure.runtime import kernels
from autoflip_secure.secure_rows.secure_sum import SecureTransfer
from autoflip_secure.training import ARITHMETIC
from autoflip_secure.version import __version__


def add_counts(total: Any, more: Any) -> Any:
    """Sum of two records of counts, field by field; None stays None."""
    pairs = {name: (getattr(total, name), getattr(more, name)) for name in type(total).model_fields}
    return type(total)(**{name: None if a is None or b is None else a + b for name, (a, b) in pairs.items()})


def as_flops(dense: int | None) -> Flops:
    """Operations of what trains the dense model, whatever is pruned: an exploration."""
    return Flops(dense=dense, sparse=dense, compacted=dense)


def variance_over_coordinates(step: Float[Tensor, " params"], places: Int[Tensor, " some"] | None) -> float:
    """Variance of the step's coordinates at ``places`` (None: of all), in double, where squares overflow later."""
    chosen = step.double() if places is None else step.double().index_select(0, places)
    return float(chosen.var(correction=0)) if len(chosen) else 0.0


def variance_between_clients(rows: Tensor) -> float:
    """Mean over coordinates of the variance between the rows: mean ||u_k - mean u||² / params."""
    if len(rows) == 0:
        return 0.0
    total = 0.0
    for block in column_blocks(rows):  # in double: squares of what an attack sends overflow sooner
        own = rows[:, block].to(torch.float64, copy=True)
        total += float(own.sub_(own.mean(0)).square_().sum())
    return total / rows.numel()


def uplink(plain: Bytes, transfer: SecureTransfer | None) -> Bytes:
    """What clients really send: shares to every party where rows are secret."""
    if transfer is None:
        return plain
    sent = transfer.traffic.from_clients
    return plain.model_copy(update={"uplink_values": sent, "uplink_bitmask": sent})


def digest(tensor: Tensor) -> str:
    """16 hexadecimal digits of the SHA-256 of its bytes."""
    return hashlib.sha256(tensor.contiguous().cpu().numpy().tobytes()).hexdigest()[:16]


def versions(device: str = "cpu", *, mixed: bool = False) -> dict[str, str]:
    """Versions that numbers may depend on; of a GPU, which one it is, where numbers are computed on one.

    ``mixed``: what multiplies in bfloat16 too.
    """
    return {
        "autoflip-secure": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "kernels": kernels.description(mixed=mixed),
        **({"gpu": kernels.of_gpu()} if device.startswith("cuda") and torch.cuda.is_available() else {}),
        "training": ARITHMETIC,
    }
