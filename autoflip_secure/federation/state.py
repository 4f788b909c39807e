"""What the server carries from round to round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.federation.attacking import AttackMemory
from autoflip_secure.interfaces import Exploration, Guidance, Pruner
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import facts


@dataclass(frozen=True)
class ScoredState:
    """Where masks are trained and the server holds their probabilities: the model that these make."""

    theta: Float[Tensor, " params"]
    weights: Float[Tensor, " params"]  # zero where the mask is False
    mask: Bool[Tensor, " params"]
    known: Bool[Tensor, " params"]  # probabilities that clients have moved


@dataclass(frozen=True)
class ServerState:
    """Everything the server carries from round to round."""

    round: int
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]
    exploration: Exploration | None
    guidance: Guidance | None
    aggregator: Any
    privacy: Any = None  # of the client-level mechanism
    momentum: Float[Tensor, " params"] | None = None  # of the server's step; None: it has none
    broadcast: Float[Tensor, " params"] | None = None  # what the local rule sends to each client
    broadcast_round: int = 1  # that it was made for
    #: with ``Pruner.keeps_masked``: what the server has at masked coordinates, where ``weights`` are zero
    masked_weights: Float[Tensor, " params"] | None = None
    root: Float[Tensor, " params"] | None = None  # of this round: the update trained on the server's clean root set
    memory: Mapping[str, Tensor] = field(default_factory=dict)  # of the pruner
    attack: AttackMemory | None = None  # not the server's: what malicious clients remember

    scored: ScoredState | None = None  # None: ``weights`` are the model's own

    @property
    def model(self) -> Float[Tensor, " params"]:
        """The weights of the global model, as the forward pass uses them."""
        return self.weights if self.scored is None else self.scored.weights

    @property
    def model_mask(self) -> Bool[Tensor, " params"]:
        """Which of them are live."""
        return self.mask if self.scored is None else self.scored.mask

    @property
    def whole(self) -> Float[Tensor, " params"]:
        """All weights that the server has: ``weights``, with what it remembers where they are masked."""
        return (
            self.weights if self.masked_weights is None else torch.where(self.mask, self.weights, self.masked_weights)
        )

    def tested(self, pruner: Pruner) -> ServerState:
        """As it is tested and kept: with all weights, for pruners that say so (``tests_whole``)."""
        if not pruner.tests_whole:
            return self
        return replace(self, weights=self.whole, mask=torch.ones_like(self.mask), masked_weights=None)

    def travelling(self, layout: Layout) -> Bool[Tensor, " params"]:
        """Coordinates that clients send: live ones that are not frozen."""
        return facts(self.mask, layout).travelling
