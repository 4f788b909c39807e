r"""Model replacement: what malicious clients trained, so large that it is left of a mean.

.. math:: u_k \leftarrow \gamma u_k, \qquad \gamma = n / f

With n updates in a plain mean, f of them malicious, the server's step is then the mean of the malicious clients' own
updates, and 1/n of the sum of the honest ones on top, which is small once training has converged: the global model is
replaced by theirs (Bagdasaryan et al. 2020, equation 3; with their eta = n for a server that adds the mean as it is).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class ModelReplacement(RowAttack):
    """Malicious clients multiply their update, by n/f so that a mean comes to theirs; put it behind a data attack."""

    kind: Literal["model_replacement"] = "model_replacement"
    source: ClassVar[str] = "Bagdasaryan et al. 2020, equation 3 (boosting: a factor of its own)"
    equation: ClassVar[str] = "u = (n / f) u_own; factor: u = factor u_own"
    threat: ClassVar[Threat] = Threat("colluders", ("update",), goal="backdoor")
    factor: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None,
        description="what an update is multiplied by (boosting); null = n/f of the round, participants over malicious",
    )

    @property
    def threat_card(self) -> Threat:
        """Who multiplies by a number that is given knows nobody else."""
        return self.threat if self.factor is None else Threat("own", self.threat.means, self.threat.goal)

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Each malicious row multiplied; no memory."""
        factor = view.participants / view.count if self.factor is None else self.factor
        return view.sending(factor * torch.where(view.active, view.updates[view.malicious], 0.0)), None
