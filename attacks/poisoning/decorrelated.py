r"""Liars that are not alike: the honest mean reversed, and each client's own direction added, which it keeps.

.. math:: u_k \leftarrow -s\, \mu + r \|\mu\| z_k, \qquad z_k \text{ a random unit vector of client } k

Directions of their own are all but orthogonal, so two of these rows have the cosine :math:`s^2 / (s^2 + r^2)`, in one
round and in sums over rounds alike, where noise that is drawn anew would average out. What is added to the step is the
mean of the directions, while the reversed part adds up. Rules that tell sybils by their being alike (FoolsGold) take
them for honest clients with rare data. Fung et al. (2020) describe the same in pairs whose noise cancels.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.attacks.poisoning.layer_cosines import with_norm
from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class Decorrelated(RowAttack):
    """The honest mean reversed, with a direction of each client's own, so that no two liars are alike."""

    kind: Literal["decorrelated"] = "decorrelated"
    source: ClassVar[str] = "after Fung et al. 2020, intelligent perturbations, whose pairs cancel"
    equation: ClassVar[str] = "u_k = -s mu + r ||mu|| z_k, z_k a random unit vector that client k keeps"
    threat: ClassVar[Threat] = Threat("rows", ("update",), memory=True)
    scale: Annotated[float, Field(gt=0, le=1e6, description="s: times the negative of the honest mean")] = 1.0
    noise: Annotated[float, Field(ge=0, le=1e6, description="r, length of the own part in norms of the mean")] = 3.0

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows; the memory is each client's direction."""
        mean = view.honest_rows.mean(0)
        known: dict[int, Tensor] = dict(view.memory or {})
        rows = []
        for place in view.malicious.nonzero().squeeze(1).tolist():
            client = int(view.clients[place])
            if client not in known:
                draws = torch.randn(mean.shape, generator=view.generators[place], dtype=torch.float32).to(mean)
                known[client] = draws
            own = with_norm(torch.where(view.active, known[client], 0.0), self.noise * mean.norm())
            rows.append(-self.scale * mean + own)
        return view.sending(torch.stack(rows)), known
