r"""A little is enough (ALIE): malicious clients stay within a few standard deviations of the honest mean, all together.

.. math:: u_k \leftarrow \mu - z\, s

with the sample standard deviation s of every coordinate. The paper's z is 0 for small cohorts (5 clients with one
malicious, 10 with two), so the default is a number.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.attacks.poisoning.honest_statistics import (
    CollusiveAttack,
    Held,
    Honest,
    deviation,
    largest_unnoticed,
)
from autoflip_secure.interfaces import AttackView


class LittleIsEnough(CollusiveAttack):
    """A little is enough (ALIE): malicious clients send the honest mean less z standard deviations."""

    kind: Literal["alie"] = "alie"
    source: ClassVar[str] = "Baruch et al. 2019"
    equation: ClassVar[str] = "u = mu - z s; the formula: z = Phi^-1((h - q) / h), q = floor(n/2 + 1) - f"
    z: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        default=1.5,
        description="standard deviations below the mean; null = the paper's formula, told in the events",
    )

    def _z(self, honest: int, malicious: int) -> float:
        return largest_unnoticed(honest, malicious) if self.z is None else self.z

    def row(self, honest: Honest, malicious: int, held: Held = None) -> Float[Tensor, " params"]:
        """mu - z s."""
        return honest.mean(0) - self._z(len(honest), malicious) * deviation(honest, held)

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """As others, and say which z the formula gave."""
        honest, malicious = len(view.honest_rows), view.count
        if self.z is None:
            view.tell(f"z = {self._z(honest, malicious):.3f} with {honest} honest and {malicious} malicious clients")
        return super().act(view)
