r"""FedProx: a client stays near the global model that it started from.

.. math:: \min_w F_k(w) + \frac{\mu}{2} \|w - w_t\|^2, \qquad g \leftarrow g + \mu (w - w_t)

The gradient of the penalty is known, so the trainers add it without a second backward pass; momentum and Adam see it as
part of the gradient.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from autoflip_secure.interfaces import LocalRule, WorksOn


class Proximal(LocalRule):
    """FedProx: a penalty on the distance from the global model, in every local step."""

    kind: Literal["proximal"] = "proximal"
    source: ClassVar[str] = "Li et al. 2020 (FedProx), equation 2"
    works_on: ClassVar[WorksOn] = "both"
    mu: Annotated[float, Field(gt=0, le=1e6, description="weight of the penalty mu/2 ||w - w_t||^2")] = 0.01

    @property
    def proximal(self) -> float:
        """mu."""
        return self.mu
