"""What scores remember of every client: exponential means of a few numbers, NaN for who was not seen yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, quantile


def exponential_mean(old: Tensor, clients: Tensor, fresh: Tensor, rho: float) -> Tensor:
    """``old`` with the entries of ``clients`` moved to rho·old + (1-rho)·fresh; the first value is taken whole."""
    if old.device.type == "cpu":  # by numpy: a population of clients is short, and torch takes five times as long
        return torch.from_numpy(_mixed(old.numpy(), clients.numpy(), fresh.numpy(), rho))
    known = old[clients]
    mixed = torch.where(known.isnan(), fresh, rho * known + (1 - rho) * fresh)
    return old.index_put((clients,), torch.where(fresh.isnan(), known, mixed))


def _mixed(old: Any, clients: Any, fresh: Any, rho: float) -> Any:
    """:func:`exponential_mean` of arrays."""
    known, found = old[clients], old.copy()
    mixed = np.where(np.isnan(known), fresh, rho * known + (1 - rho) * fresh)
    found[clients] = np.where(np.isnan(fresh), known, mixed)
    return found


def remembered_norms(log_norms: Tensor, clients: Tensor, norms: Tensor, rho: float) -> Float[Tensor, " all_clients"]:
    """Every client's mean log norm, with those of this round in it."""
    return exponential_mean(log_norms, clients, norms.clamp_min(TINY).log(), rho)


def typical(log_norms: Float[Tensor, " all_clients"]) -> Float[Tensor, ""]:
    """r, the norm of a typical update: the 0.4-quantile over the clients seen so far."""
    return quantile(log_norms, 0.4).exp()
