r"""Relocated orthogonal perturbation (RoP): around the point that centred clipping clips around, across its way.

.. math::
    u_k \leftarrow \ell m + (1 - \ell) \mu
        + z \left( \sin\theta\, \frac{p}{\|p\|} + \cos\theta\, \frac{v}{\|v\|} \right), \qquad
    v = \lambda m + (1 - \lambda) \mu, \qquad p = 1 - \frac{\langle 1, v \rangle}{\|v\|^2} v

m is the server's last step, which every participant knows from two global models; 1 is the vector of ones on active
coordinates. A row no further from m than honest ones is not clipped, and what is added stays in m, and so in the next
round's centre (Özfatura et al. 2024; location, reference and angle as in their code). The attackers know m where the
server adds its step as it is; where nobody malicious took part for some rounds they take the mean over these.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, quantile
from autoflip_secure.attacks.poisoning.global_steps import last_step
from autoflip_secure.interfaces import AttackView, RowAttack, Threat

_Share = Annotated[float, Field(ge=0, le=1)]


class RelocatedOrthogonal(RowAttack):
    """RoP: around the server's last step, at right angles to where the cohort goes; against centred clipping."""

    kind: Literal["rop"] = "rop"
    source: ClassVar[str] = "Özfatura et al. 2024 (arXiv 2208.09894); location, reference and angle as in their code"
    equation: ClassVar[str] = (
        "u = m + z (sin(a) p / ||p|| + cos(a) v / ||v||), v = .9 m + .1 mu, p = 1 - <1, v> v / ||v||², a = 270°; m the "
        "server's last step"
    )
    threat: ClassVar[Threat] = Threat("rows", ("update",), memory=True)
    z: Annotated[float, Field(gt=0, le=1e6, description="length of the perturbation, in `unit`")] = 1.0
    unit: Literal["median", "absolute"] = Field(
        default="median", description="z is in median distances of honest rows to the last step, or a number as it is"
    )
    location: _Share = Field(
        default=1.0, description="where the perturbation begins: share of the last step, the rest is the honest mean"
    )
    reference: _Share = Field(
        default=0.9, description="what it is orthogonal to: share of the last step, the rest is the honest mean"
    )
    angle: Annotated[float, Field(ge=0, le=360, description="degrees from the reference; 90 and 270: across")] = 270.0

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows by one; the memory is (round, global weights)."""
        row = self.row(view.honest_rows, last_step(view) * view.active, view.active)
        return view.sending(row), (view.round, view.weights)

    def row(
        self, honest: Float[Tensor, "honest params"], step: Float[Tensor, " params"], active: Tensor
    ) -> Float[Tensor, " params"]:
        """What they send, from the honest rows and the last step."""
        mean, ones = honest.mean(0).double(), active.double()
        m = step.double()
        along = self.reference * m + (1 - self.reference) * mean
        along = along / along.norm().clamp_min(TINY)
        across = ones - (ones @ along) * along
        across = across / across.norm().clamp_min(TINY)
        length = self.z
        if self.unit == "median":
            length *= float(quantile((honest.double() - m).norm(dim=1), 0.5))
        turn = math.radians(self.angle)
        away = math.sin(turn) * across + math.cos(turn) * along
        row: Tensor = self.location * m + (1 - self.location) * mean + length * away
        return row.to(honest)
