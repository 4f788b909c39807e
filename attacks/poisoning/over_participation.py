r"""Taking part more often than others: servers draw among clients that say they are available, and cannot check.

A round draws a number :math:`u_k \in [0, 1)` for every client and takes the cohort with the smallest (under Poisson
sampling: those below cohort / clients). Malicious clients make theirs smaller:

.. math:: u_k \leftarrow u_k / c

so that a client that was drawn among few honest ones still is, and more and more of a cohort is malicious as c grows.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import ParticipationAttack


class OverParticipation(ParticipationAttack):
    """Malicious clients are drawn c times as readily as others; combine it with an attack on updates."""

    kind: Literal["over_participation"] = "over_participation"
    source: ClassVar[str] = "availability is self-reported: Bonawitz et al. 2019, section 2.2"
    equation: ClassVar[str] = "u_k = u_k / c; the cohort are the smallest u"
    factor: Annotated[
        float, Field(ge=1, le=1e6, description="c: how much more readily they are drawn; 1 is no lie")
    ] = 4.0

    def places(self, places: Float[Tensor, " malicious"]) -> Float[Tensor, " malicious"]:
        """u / c."""
        return places / self.factor
