r"""Lying about the number of samples, which the server weights clients with and cannot check.

.. math:: n_k \leftarrow \max(1, \mathrm{round}(c\, n_k))
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import SampleAttack


class LieSamples(SampleAttack):
    """Malicious clients state a multiple of their number of samples; combine it with an attack on updates."""

    kind: Literal["lie_samples"] = "lie_samples"
    source: ClassVar[str] = "n_k is self-reported: McMahan et al. 2017, Alg. 1"
    equation: ClassVar[str] = "n_k = max(1, round(c n_k))"
    factor: Annotated[float, Field(gt=0, le=1000, description="c: times the true number; 1 is no lie")] = 10.0

    def samples(self, samples: Float[Tensor, " malicious"]) -> Float[Tensor, " malicious"]:
        """c n_k, whole and at least 1."""
        return (self.factor * samples).round().clamp_min(1)
