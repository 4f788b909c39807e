r"""Sign flipping: malicious clients send the negative of their own update, or of the honest mean.

.. math:: \text{own:}\quad u_k \leftarrow -s\, u_k, \qquad \text{mean:}\quad u_k \leftarrow -s\, \mu
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.attacks.poisoning.honest_statistics import honest_of
from autoflip_secure.interfaces import AttackView, Channel, RowAttack, Threat


class SignFlip(RowAttack):
    """Malicious clients send the negative of their own update, or of the mean of the honest ones."""

    kind: Literal["sign_flip"] = "sign_flip"
    source: ClassVar[str] = "Li et al. 2019 (RSA); of the mean: ByzFL"
    equation: ClassVar[str] = "u = -s u_own; of: mean: u = -s mu"
    threat: ClassVar[Threat] = Threat("own", ("update", "exploration"))
    of: Literal["own", "mean"] = Field(default="own", description="whose update: its own, or the honest mean")
    scale: Annotated[float, Field(gt=0, le=1e6, description="s: times the negative")] = 1.0

    @property
    def threat_card(self) -> Threat:
        """The mean needs every row."""
        return self.threat if self.of == "own" else Threat("rows", self.threat.means)

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows."""
        rows = view.updates[view.malicious] if self.of == "own" else view.honest_rows.mean(0)
        return view.sending(-self.scale * rows), None

    def channel(
        self,
        channel: Channel,
        rows: Float[Tensor, "clients size"],
        malicious: Bool[Tensor, " clients"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "clients size"]:
        """The same of the rows of another channel."""
        negative = -self.scale * (rows if self.of == "own" else honest_of(rows, malicious).mean(0))
        return torch.where(malicious[:, None], negative, rows)
