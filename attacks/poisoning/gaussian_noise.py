r"""Gaussian noise: malicious clients add noise to what they send (AutoFLIP paper, Fig. 9: on 20 % of the clients).

.. math:: u_k \leftarrow u_k + \sigma z, \qquad \text{relative:}\quad u_k \leftarrow u_k + \sigma \|u_k\| z / \|z\|
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.interfaces import Threat, UpdateAttack
from autoflip_secure.models.masks import kept


class GaussianNoise(UpdateAttack):
    """Malicious clients add Gaussian noise to their update, absolute or relative to the update's norm."""

    kind: Literal["gaussian_noise"] = "gaussian_noise"
    source: ClassVar[str] = "AutoFLIP paper, Fig. 9: u_k + sigma z"
    equation: ClassVar[str] = "u = u_own + sigma z, z ~ N(0, I)"
    threat: ClassVar[Threat] = Threat("own", ("update", "exploration"))
    sigma: Annotated[float, Field(ge=0, description="standard deviation per weight, or noise norm / update norm")] = 0.5
    relative: bool = Field(default=False, description="sigma is relative to the norm of the malicious client's update")

    def updates(
        self,
        updates: Float[Tensor, "clients params"],
        malicious: Bool[Tensor, " clients"],
        active: Bool[Tensor, " params"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "clients params"]:
        """All rows, the malicious ones with noise on their active coordinates."""
        result = updates.clone()
        for row in (place for place, flag in enumerate(malicious.tolist()) if flag):
            noise = kept(torch.randn(updates.shape[1], generator=generators[row]).to(updates.device), active)
            scale = self.sigma * updates[row].norm() / noise.norm().clamp_min(TINY) if self.relative else self.sigma
            result[row].add_(noise.mul_(scale))
        return result
