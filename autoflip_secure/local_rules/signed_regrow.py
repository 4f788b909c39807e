r"""FedSGC (2024): clients move masks by magnitude and gradient, and in the direction of the server's last step first.

With :math:`d_j` the sign of the server's last step that moved :math:`w_j` (before it cut), sent to the clients of a
round that moves masks, and :math:`\delta_k = \mathrm{sign}(w_k - w_t)` of live weights, :math:`-\mathrm{sign}(g_k)` of
dead ones, where a step would take them: of each hidden tensor

.. math::
    n = \lfloor a_t \cdot \text{live} \rfloor \text{ go: at most } \lambda \cdot \text{live of } \delta_j = -d_j
    \text{ first, then of all; each time least } |w_j|

and n come: at most :math:`\beta \cdot \text{dead of } \delta_j = d_j` first, then of all, each time largest
:math:`|g_j|`; :math:`a_t` and when masks move are those of :mod:`.regrow`. Before the first step there is no direction.

Evidence: the abstract, and the benchmark FedPruning@7069881, which passes no d to clients, so that its masks never
move; what is above is our reading of both (theirs is the last step alone, which does not move dead weights). lambda
0.01 and beta 0.1 are the benchmark's; the share 0.2 and the interval of 10 rounds are those that it uses for FedTiny,
and masks stay from half of the rounds on, as in FedDST.
"""

from __future__ import annotations

from math import cos, pi
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import BroadcastView, LocalView
from autoflip_secure.local_rules.regrow import Regrow


class SignedRegrow(Regrow):
    """Clients drop and grow weights once in local training, first where the server's last step disagrees or agrees."""

    kind: Literal["signed_regrow"] = "signed_regrow"  # type: ignore[assignment]
    source: ClassVar[str] = "FedSGC 2024, known from its abstract and a benchmark; the rule is our reading"
    broadcast_bits: ClassVar[Literal[2, 32]] = 2
    share: Annotated[
        float, Field(gt=0, le=1, description="of each tensor's live weights that move in the first rounds; falls to 0")
    ] = 0.2
    every: Annotated[int, Field(ge=1, le=100_000, description="rounds from one in which masks move to the next")] = 10
    until: Annotated[
        float, Field(gt=0, le=1, description="share of the rounds after which masks stay; the share falls to 0 there")
    ] = 0.5
    against: Annotated[
        float, Field(ge=0, le=1, description="lambda: share of the live weights that may go first for their direction")
    ] = 0.01
    along: Annotated[
        float, Field(ge=0, le=1, description="beta: share of the dead weights that may come first for their direction")
    ] = 0.1

    def renews(self, round_: int, rounds: int) -> bool:
        """After every step; it is sent in rounds in which masks move alone."""
        return True

    def broadcast(self, view: BroadcastView) -> Float[Tensor, " params"] | None:
        """Signs of the last step that moved each coordinate; None before there was one."""
        if view.step is None:
            return None
        signs = view.step.sign()
        return signs if view.before is None else torch.where(signs == 0, view.before, signs)

    def mask(
        self, view: LocalView, gradients: list[Tensor], epoch: Int[Tensor, " models"], epochs: int
    ) -> list[Tensor]:
        """Drop and grow in each hidden tensor; every other stays as it is."""
        assert view.masks is not None
        share = self.share / 2 * (1 + cos(pi * min(1.0, view.round / (self.until * view.rounds))))
        signs = view.broadcast or [torch.zeros_like(weight) for weight in view.weights]
        found = []
        for segment, *tensors in zip(
            view.segments, view.masks, view.weights, view.starts, gradients, signs, strict=True
        ):
            mask, weight, start, gradient, sign = (tensor.reshape(len(tensor), -1) for tensor in tensors)
            live = mask > 0
            if segment.hidden:
                count = (share * live.sum(1).double()).long()
                against = live & (sign != 0) & ((weight - start).sign() == -sign)
                goes = _first(-weight.abs(), against, live, count, self.against * live.sum(1).double())
                kept = live & ~goes
                along = ~live & (sign != 0) & (-gradient.sign() == sign)
                live = kept | _first(gradient.abs(), along, ~kept, count, self.along * (~live).sum(1).double())
            found.append(live.view_as(tensors[0]))
        return found


def _first(
    values: Float[Tensor, "models numbers"],
    preferred: Bool[Tensor, "models numbers"],
    among: Bool[Tensor, "models numbers"],
    counts: Int[Tensor, " models"],
    most: Float[Tensor, " models"],
) -> Bool[Tensor, "models numbers"]:
    """The ``counts`` largest values: first those preferred, at most ``most``, then of all ``among`` which they are."""
    early = torch.minimum(torch.minimum(most.long(), counts), preferred.sum(1))
    chosen = _top(values, preferred, early)
    return chosen | _top(values, among & ~chosen, counts - early)


def _top(
    values: Float[Tensor, "models numbers"], among: Bool[Tensor, "models numbers"], counts: Int[Tensor, " models"]
) -> Bool[Tensor, "models numbers"]:
    """As many largest values of each model, ``among`` which there are so many; of equals the first."""
    order = values.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(values.shape[1], device=values.device) < counts[:, None]
    return torch.zeros_like(among).scatter_(1, order, first)
