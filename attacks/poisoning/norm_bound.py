r"""Norm-bounded updates: malicious clients stay as short as a server that looks at norms expects.

.. math:: u_k \leftarrow u_k \min(1, \rho / \|u_k\|)

The projection of Sun et al. 2019 and Wang et al. 2020 (PGD), done once on the update rather than after every local
step. Behind model replacement it takes back what a clip would take, and no more.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import clip_factors
from autoflip_secure.attacks.poisoning.honest_statistics import median_norm
from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class NormBound(RowAttack):
    """Malicious clients shorten their update to a norm that does not stand out; put it behind other attacks."""

    kind: Literal["norm_bound"] = "norm_bound"
    source: ClassVar[str] = "Sun et al. 2019; Wang et al. 2020 (PGD), projected once, after training"
    equation: ClassVar[str] = "u = u_own min(1, rho / ||u_own||), rho in median norms of honest updates"
    threat: ClassVar[Threat] = Threat("rows", ("update",), goal="backdoor")
    norm: Annotated[float, Field(gt=0, le=1e6, description="rho: the longest that an update may be, in `unit`")] = 1.0
    unit: Literal["typical", "absolute"] = Field(
        default="typical", description="rho is in median norms of the round's honest updates, or a number as it is"
    )

    @property
    def threat_card(self) -> Threat:
        """Who has a number knows its own update alone."""
        return self.threat if self.unit == "typical" else Threat("own", self.threat.means, self.threat.goal)

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Each malicious row shortened; no memory."""
        own = torch.where(view.active, view.updates[view.malicious], 0.0)
        bound = self.norm * (float(median_norm(view.honest_rows)) if self.unit == "typical" else 1.0)
        return view.sending(own * clip_factors(own.norm(dim=1, keepdim=True), bound)), None
