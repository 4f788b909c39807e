r"""Neurotoxin: malicious clients leave alone what everybody moves, so that their backdoor is not trained away.

.. math:: u_k \leftarrow \mathbb 1[j \notin \mathrm{top}_q |m|]\, u_{kj}, \qquad m = \frac{w_t - w_{t'}}{t - t'}

m is the mean step of the global model since malicious clients last had it, in round t', and top_q the share q of the
active coordinates with the largest |m|, over all tensors (Zhang et al. 2022, who project after every local step; here
once, on the update). In the first round in which they act they have no step to look at, and send as trained.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.attacks.poisoning.global_steps import last_step
from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class Neurotoxin(RowAttack):
    """Malicious clients send nothing where the global model moved most in its last step; put it behind a backdoor."""

    kind: Literal["neurotoxin"] = "neurotoxin"
    source: ClassVar[str] = "Zhang et al. 2022 (Neurotoxin), projected once, after training"
    equation: ClassVar[str] = "u = u_own, and 0 on the share q of coordinates with the largest |w - w_last|"
    threat: ClassVar[Threat] = Threat("colluders", ("update",), goal="backdoor", memory=True)
    share: Annotated[float, Field(ge=0, lt=1, description="q: share of the active coordinates that are left alone")] = (
        0.05
    )

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Each malicious row without those coordinates; the memory is (round, global weights)."""
        spared = most_moved(last_step(view), view.active, self.share)
        return view.sending(torch.where(spared, 0.0, view.updates[view.malicious])), (view.round, view.weights)


def most_moved(
    step: Float[Tensor, " params"], active: Bool[Tensor, " params"], share: float
) -> Bool[Tensor, " params"]:
    """Where the step is largest: round(share · active) of the active coordinates, fewer where fewer moved."""
    size = torch.where(active, step.abs(), 0.0)
    found = torch.zeros_like(active)
    found[size.topk(round(share * int(active.sum()))).indices] = True
    return found & (size > 0)
