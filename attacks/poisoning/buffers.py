"""Running statistics: malicious clients train honestly, and send means and variances of normalisation that are absurd.

Scores and distances look at trained coordinates, so nothing about the trained part gives them away; a rule that then
averages running statistics with the same weights lets one accepted client set them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class Buffers(RowAttack):
    """Malicious clients send absurd running statistics, and an honest update beside them."""

    kind: Literal["buffers"] = "buffers"
    source: ClassVar[str] = "running means and variances at 1e6 or NaN"
    equation: ClassVar[str] = "u = value - w on running statistics"
    threat: ClassVar[Threat] = Threat("own", ("buffers",))
    send: Literal["value", "nan"] = Field(default="value", description="their value, or NaN")
    value: Annotated[float, Field(ge=-1e6, le=1e6, description="that their running statistics would be")] = 1e6

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace running statistics by what brings this client's to the value."""
        target = torch.nan if self.send == "nan" else self.value
        lie = torch.where(view.buffers & view.malicious[:, None], target - view.weights, view.updates)
        return lie, None
