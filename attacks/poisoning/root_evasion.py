r"""Against a server with clean data: the row that takes most from the honest mean for what it is trusted.

FLTrust trusts a row at the angle :math:`\theta` to its own update g with :math:`\cos\theta`, and makes it as long as g.
So a liar moves the step along the honest mean :math:`\mu` in proportion to

.. math:: \cos\theta \, \langle \cos\theta\, \hat g + \sin\theta\, p, \mu \rangle, \qquad
          p = -\mathrm{perp}(\mu) / \|\mathrm{perp}(\mu)\|

with perp the part orthogonal to g, and :math:`\varphi` the angle between g and the mean. That is least at
:math:`\theta = (\pi - \varphi) / 2`. Where the server has no such update the attacker takes the mean of what the
malicious clients trained honestly, as one has to who does not know g.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.attacks.poisoning.honest_statistics import median_norm
from autoflip_secure.attacks.poisoning.layer_cosines import with_norm
from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class RootEvasion(RowAttack):
    """Trusted by a server with clean data for as much of its update as it takes to reverse the rest; on FLTrust."""

    kind: Literal["root_evasion"] = "root_evasion"
    source: ClassVar[str] = "this project: the adaptive attack on FLTrust (Cao et al. 2021) in closed form"
    equation: ClassVar[str] = (
        "u = cos(a) g / ||g|| - sin(a) perp(mu) / ||perp(mu)||, a = (180° - angle(g, mu)) / 2, a typical norm long; g "
        "the server's update on its clean data"
    )
    threat: ClassVar[Threat] = Threat("defence", ("update",))
    norm: Annotated[float, Field(gt=0, le=1e6, description="length of the row in typical norms of honest ones")] = 1.0

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows by one."""
        rows = view.honest_rows
        root = view.root if view.root is not None else view.updates[view.malicious].nan_to_num(0, 0, 0).mean(0)
        row = self.row(rows.mean(0), root * view.active)
        return view.sending(with_norm(row, self.norm * median_norm(rows))), None

    def row(self, mean: Float[Tensor, " params"], root: Float[Tensor, " params"]) -> Float[Tensor, " params"]:
        """Its direction; where the mean lies along g nothing is left to reverse, and it is across to nothing: zero."""
        unit = root.double() / root.double().norm().clamp_min(TINY)
        along = float(mean.double() @ unit)
        across = mean.double() - along * unit
        off = float(across.norm())
        if off <= TINY:
            return mean * 0
        turn = (math.pi - math.atan2(off, along)) / 2
        found: Tensor = math.cos(turn) * unit - math.sin(turn) * across / off
        return found.to(mean)
