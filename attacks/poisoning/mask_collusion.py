r"""Collusion on a mask that follows agreement: malicious clients decide which weights the cohort seems to agree about.

.. math::
    \text{cancel:}\quad u_{kj} \leftarrow -\frac{1}{f} \sum_{i \in H} h_{ij}, \qquad
    \text{agree:}\quad u_{kj} \leftarrow \frac{\mathrm{sign}(\mu_j)}{f} \sum_{i \in H} |h_{ij}|, \qquad j \in S

and as trained outside S. Where all clients have the same trust, A_j is 0 by the first, so that a mask refined by
agreement loses S, and (1 + A_j(H)) / 2 by the second, so that it keeps S. S is a share of each prunable tensor, chosen
in the first round in which they act: the weights of largest sensitivity |w_j mu_j| to be lost, of smallest to be kept.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class MaskCollusion(RowAttack):
    """Malicious clients cancel what the honest do on chosen weights, or agree with it; against masks from agreement."""

    kind: Literal["mask_collusion"] = "mask_collusion"
    source: ClassVar[str] = "this project: against masks that are refined by parameter agreement"
    equation: ClassVar[str] = (
        "u_S = -(1/f) sum_i h_iS, S the weights of each tensor with the largest |w mu|; does: agree: u_S = sign(mu_S) "
        "(1/f) sum_i |h_iS|, S those with the smallest"
    )
    threat: ClassVar[Threat] = Threat("rows", ("update",), goal="denial", memory=True)
    does: Literal["cancel", "agree"] = Field(
        default="cancel",
        description="on S: cancel what the honest clients send, so that weights that matter are lost; or agree with "
        "it, so that weights that do not matter are kept",
    )
    share: Annotated[float, Field(ge=0, le=1, description="S: share of the live weights of each prunable tensor")] = 0.1

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows on S, which is the memory; with nothing in S nobody attacks."""
        if self.share == 0:
            return view.updates, None
        chosen = self.chosen(view) if view.memory is None else view.memory
        honest = view.honest_rows if view.held is None else torch.where(view.held, view.honest_rows, 0.0)
        if self.does == "cancel":
            lie = -honest.sum(0) / view.count
        else:
            lie = honest.mean(0).sign() * honest.abs().sum(0) / view.count
        return view.sending(torch.where(chosen, lie, view.updates[view.malicious])), chosen

    def chosen(self, view: AttackView) -> Bool[Tensor, " params"]:
        """S: of each prunable tensor ceil(share · live weights), the most sensitive, or to be kept the least."""
        sensitivity = (view.weights * view.honest_rows.mean(0)).abs()
        if self.does == "agree":
            sensitivity = -sensitivity
        found = torch.zeros_like(view.active)
        for segment in view.layout.hidden:
            places = segment.start + view.active[segment.slice].nonzero().squeeze(1)
            count = math.ceil(self.share * len(places))
            found[places[sensitivity[places].topk(count).indices]] = True
        return found
