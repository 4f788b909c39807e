"""What an aggregator is asked, and with what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.interfaces.base import Plugin
from autoflip_secure.interfaces.landscape import Exploration, Guidance
from autoflip_secure.models.layout import Layout


@dataclass(frozen=True)
class RoundView:
    """What the server sees in one round. No row is longer than 1e18: clients that sent others are left out before."""

    round: int
    clients: Int[Tensor, " clients"]
    samples: Float[Tensor, " clients"]  # n_k
    updates: Float[Tensor, "clients params"]  # u_k, zero where masked
    weights: Float[Tensor, " params"]  # w, before this round
    mask: Bool[Tensor, " params"]
    guidance: Guidance | None
    layout: Layout
    shrinkage: Float[Tensor, " clients"]  # share of w that weight decay alone took off each client's copy

    @property
    def directions(self) -> Float[Tensor, "clients params"]:
        """The rows without running statistics and frozen weights: what norms, distances and angles are measured on."""
        return self.layout.of_trained(self.updates)


@dataclass(frozen=True)
class Aggregate:
    """The server's decision: the step, and what each client counted for."""

    delta: Float[Tensor, " params"]
    trust: Float[Tensor, " clients"]  # omega_k: non-negative, sums to 1, or all 0 (no step)
    scores: Float[Tensor, " clients"] | None  # s_k in [0, 1]; None: this aggregator does not score
    state: Any = None
    statistics: dict[str, Float[Tensor, " clients"]] = field(default_factory=dict)


class Aggregator(Plugin, ABC):
    """Turns the rows of one round into one step."""

    needs_guidance: ClassVar[bool] = False
    scores_clients: ClassVar[bool] = False
    linear: ClassVar[bool] = False  # a sum of rows with weights that do not depend on them: a secure sum is enough

    def start(self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None) -> Any:
        """State before round 1. Default: stateless."""
        return None

    @abstractmethod
    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round."""
