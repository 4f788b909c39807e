"""What scores remember of every client: exponential means of a few numbers, NaN for who was not seen yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, each, quantile


def exponential_mean(
    old: Float[Tensor, "*cells all_clients"],
    clients: Int[Tensor, "*cells clients"],
    fresh: Float[Tensor, "*cells clients"],
    rho: float,
) -> Float[Tensor, "*cells all_clients"]:
    """``old`` with the entries of ``clients`` moved to rho·old + (1-rho)·fresh; the first value is taken whole."""
    if old.device.type == "cpu":  # by numpy: a population of clients is short, and torch takes five times as long
        return torch.from_numpy(_mixed(old.numpy(), clients.numpy(), fresh.numpy(), rho))
    known = old.gather(-1, clients)
    mixed = torch.where(known.isnan(), fresh, rho * known + (1 - rho) * fresh)
    return old.scatter(-1, clients, torch.where(fresh.isnan(), known, mixed))


def _mixed(old: Any, clients: Any, fresh: Any, rho: float) -> Any:
    """:func:`exponential_mean` of arrays."""
    found = old.copy()
    table, clients = found.reshape(-1, old.shape[-1]), clients.reshape(-1, clients.shape[-1])
    places, fresh = (np.arange(len(table))[:, None], clients), fresh.reshape(clients.shape)
    known = table[places]
    mixed = np.where(np.isnan(known), fresh, rho * known + (1 - rho) * fresh)
    table[places] = np.where(np.isnan(fresh), known, mixed)
    return found


def remembered_norms(
    log_norms: Float[Tensor, "*cells all_clients"],
    clients: Int[Tensor, "*cells clients"],
    norms: Float[Tensor, "*cells clients"],
    rho: float,
) -> Float[Tensor, "*cells all_clients"]:
    """Every client's mean log norm, with those of this round in it."""
    return exponential_mean(log_norms, clients, each(lambda own: own.clamp_min(TINY).log(), norms), rho)


def typical(log_norms: Float[Tensor, "*cells all_clients"]) -> Float[Tensor, "*cells"]:
    """r, the norm of a typical update: the 0.4-quantile over the clients seen so far."""
    return each(torch.exp, quantile(log_norms, 0.4)[..., None])[..., 0]
