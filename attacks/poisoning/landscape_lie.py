r"""Lies about the landscape: explorers that send deviations of another profile than training gave them.

.. math:: |d| \propto (1 - a)\, \pi + a\, q, \qquad \|d\| = \mathrm{med}\, \|d_k\|, \quad \text{signs of its own}

pi is the median profile of the honest explorers, q what the masks are to be misled by, tensor by tensor: ``anti`` turns
the ranks of pi round; ``spike`` gives everything to 2 % of a tensor, so that the rest falls below any threshold that is
relative to the top; ``flat`` makes all weights alike, so that nothing is pruned. a is the largest for which the server
still keeps every lying explorer, found by halving through what it would make of them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, median_rows
from autoflip_secure.attacks.poisoning.honest_statistics import median_norm
from autoflip_secure.attacks.poisoning.layer_cosines import with_norm
from autoflip_secure.interfaces import AttackView, RowAttack, Threat

_SPIKE = 0.02  # share of a tensor that takes all


class LandscapeLie(RowAttack):
    """Explorers lie about which weights matter, as far as the server believes them."""

    kind: Literal["landscape_lie"] = "landscape_lie"
    source: ClassVar[str] = "this project: guidance masks made of a false landscape"
    equation: ClassVar[str] = (
        "|d| ~ (1 - a) pi + a q, the largest a at which the server keeps the explorer; q: anti, spike, flat"
    )
    threat: ClassVar[Threat] = Threat("defence", ("exploration",), goal="denial")
    lie: Literal["anti", "spike", "flat"] = Field(
        default="anti", description="ranks turned round; 2 % of each tensor takes all; all weights alike"
    )
    trials: Annotated[int, Field(ge=1, le=1000, description="landscapes that are tried")] = 12

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious deviations by the largest lie that is believed; a is told in the events.

        Where no landscape is made of them, as of one client that begins alone, there is nothing to lie about.
        """
        if view.landscape is None:
            view.tell("no landscape is made of what it sends: sent as trained")
            return view.updates, None
        rows = view.honest_rows
        honest = median_rows(rows.abs() / rows.norm(dim=1).clamp_min(TINY)[:, None])
        false = self.profile(honest, view)
        signs = view.updates[view.malicious].sign()

        def lying(share: float) -> Tensor:
            return signs * with_norm((1 - share) * honest + share * false, median_norm(rows))

        low, high = 0.0, 1.0
        if not self._believed(view, lying(1.0)):
            for _ in range(self.trials - 1):
                middle = (low + high) / 2
                low, high = (middle, high) if self._believed(view, lying(middle)) else (low, middle)
        else:
            low = 1.0
        view.tell(f"{self.lie}: a = {low:.3f}")
        return view.sending(lying(low)), None

    def _believed(self, view: AttackView, rows: Tensor) -> bool:
        assert view.landscape is not None
        found = view.landscape(view.sending(rows))
        lying = torch.isin(found.clients.cpu(), view.clients[view.malicious].cpu())
        return int(lying.sum()) == view.count and bool(found.kept.cpu()[lying].all())

    def profile(self, honest: Float[Tensor, " params"], view: AttackView) -> Float[Tensor, " params"]:
        """q: of each tensor the norm that the honest profile has, otherwise distributed."""
        false = honest.clone()
        for segment in view.layout.hidden:
            own = honest[segment.slice]
            if self.lie == "anti":
                order, turned = own.argsort(stable=True), torch.empty_like(own)
                turned[order] = own[order].flip(0)
            else:
                turned = torch.ones_like(own)
                if self.lie == "spike":
                    turned = torch.zeros_like(own)
                    turned[own.argsort(stable=True)[: math.ceil(_SPIKE * len(own))]] = 1.0
            false[segment.slice] = turned * own.norm() / turned.norm().clamp_min(TINY)
        return false
