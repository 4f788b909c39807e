r"""Inner-product manipulation: malicious clients push the mean's inner product with the honest one below zero.

.. math:: u_k \leftarrow -\varepsilon \mu
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.attacks.poisoning.honest_statistics import CollusiveAttack, Held, Honest


class InnerProduct(CollusiveAttack):
    """Inner-product manipulation (IPM): malicious clients send a small negative multiple of the honest mean."""

    kind: Literal["ipm"] = "ipm"
    source: ClassVar[str] = "Xie et al. 2019 (Fall of Empires)"
    equation: ClassVar[str] = "u = -epsilon mu"
    epsilon: Annotated[float, Field(ge=0, le=1e6, description="0.5 hides, 10 turns a mean round; 0 sends nothing")] = (
        0.5
    )

    def row(self, honest: Honest, malicious: int, held: Held = None) -> Float[Tensor, " params"]:
        """-epsilon mu."""
        return -self.epsilon * honest.mean(0)
