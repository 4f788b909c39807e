"""Rows that are clipped, and rows with noise: what every mechanism on them is made of."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import clip_factors
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Channel, PrivacyView


def bound_of(channel: Channel) -> float:
    """The clip norm of a channel.

    Raises:
        InputError: it has none.
    """
    if channel.bound is None:
        raise InputError(f"channel {channel.name!r} has no bound, and noise has no scale without one; give it a bound")
    return channel.bound


def or_zeros(rows: Float[Tensor, "clients params"]) -> Float[Tensor, "clients params"]:
    """Zeros instead of rows that are not finite."""
    return torch.where(rows.isfinite().all(1, keepdim=True), rows, 0.0)


def clip_to(rows: Float[Tensor, "clients params"], clip: float) -> Float[Tensor, "clients params"]:
    """Rows longer than ``clip`` shortened to it; computed in double, so that no row is longer by rounding.

    Not even one of length 1e38, whose factor single precision has no digits for.
    """
    wide = rows.double()
    shrink = clip_factors(wide.norm(dim=1, keepdim=True), clip * (1 - 1e-6))
    return (wide * shrink).to(rows)


def noised(
    honest: Float[Tensor, "clients params"], sent: Float[Tensor, "clients params"], view: PrivacyView, scale: float
) -> Float[Tensor, "clients params"]:
    """Rows of honest owners: those of ``honest`` with noise of standard deviation ``scale``; others as in ``sent``."""
    rows = sent.clone()
    owners: Bool[Tensor, " clients"] = view.honest
    for row in owners.nonzero().squeeze(1).tolist():
        noise = normal(view.generators[row], sent.shape[1], sent)
        rows[row] = honest[row] + scale * noise * view.active
    return rows


def normal(source: np.random.Generator, count: int, like: Tensor) -> Float[Tensor, " params"]:
    """Standard normal numbers, drawn in double, on the device and in the type of ``like``."""
    return torch.from_numpy(source.standard_normal(count)).to(like)
