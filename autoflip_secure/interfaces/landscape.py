"""The loss landscape: what explorers found, and the guidance made of it."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Exploration:
    """Phase 1: what the explorers sent, and the landscape energy made of it. Malicious explorers are among them."""

    clients: Int[Tensor, " explorers"]
    samples: Float[Tensor, " explorers"]  # n_k
    deviations: Float[Tensor, "sent params"]  # d_k = w_k - w_0, signed; no rows once the first pruning is done
    energy: Float[Tensor, " params"]  # D_0 >= 0
    agreement: Float[Tensor, " explorers"]  # a_k
    kept: Bool[Tensor, " explorers"]
    losses: tuple[tuple[float, ...], ...] = ()  # per explorer and epoch
    rejected: tuple[int, ...] = ()  # clients whose deviations were not usable; not among ``clients``
    rejected_epochs: tuple[int, ...] = ()  # that each of these trained


@dataclass(frozen=True)
class Guidance:
    """The landscape as it stands: energy D and parameter agreement A, both (params,)."""

    energy: Float[Tensor, " params"]
    parameter_agreement: Float[Tensor, " params"]
