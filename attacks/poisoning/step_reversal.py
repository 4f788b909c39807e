r"""The server's own step reversed, by colluders who are as alike as harms most: against what remembers all clients.

Where rows of absent clients are in a step, the honest mean of the cohort is not where it goes. An attacker who can try
what the server would do knows better: v, the step if all were honest. Rules that look for rows that are alike are met
by colluders that share no more than a part t of their squared norm:

.. math:: u_k = c\, r \left( \sqrt{t}\, \hat{b} + \sqrt{1 - t}\, q_k \right), \qquad
          \arg\min_{b, t, c} \langle F(\text{rows}), v \rangle, \quad q_k \perp b \text{ random, of norm 1}

with b the reversed step, the reversed honest mean, or that reversal which directional scores do not see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.attacks.poisoning.honest_statistics import median_norm
from autoflip_secure.attacks.poisoning.layer_cosines import reversed_mean
from autoflip_secure.attacks.poisoning.searched import attempt
from autoflip_secure.interfaces import AttackView, RowAttack, Threat

ALIKE = (1.0, 0.8, 0.6, 0.4, 0.2)  # t
LENGTHS = (1.0, 2.0)  # in typical norms of honest rows


class StepReversal(RowAttack):
    """Reverse the step that the server would make if all were honest; colluders as alike as harms most."""

    kind: Literal["step_reversal"] = "step_reversal"
    source: ClassVar[str] = "this project: the generic attack on servers that remember rows"
    equation: ClassVar[str] = "u_k = c r (sqrt(t) b + sqrt(1-t) q_k), the b, t and c of least <F(rows), F(honest rows)>"
    threat: ClassVar[Threat] = Threat("defence", ("update",))
    strength: Annotated[float, Field(ge=0, le=1e6, description="of the lengths that are tried; 0 = no attack")] = 1.0

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Try the family, and send the worst; their own honest rows are in it."""
        if self.strength == 0:
            return view.updates, None
        own = view.updates[view.malicious]
        step = attempt(view, own)[1].double()
        best, least = own, float(step @ step)
        for rows in self.family(view, step.to(own)):
            progress = float(attempt(view, rows)[1].double() @ step)
            if progress < least:
                best, least = rows, progress
        return view.sending(best), None

    def family(self, view: AttackView, step: Float[Tensor, " params"]) -> Iterator[Float[Tensor, "malicious params"]]:
        """What is tried: three directions, five degrees of likeness, two lengths."""
        honest = view.honest_rows
        typical, mean = median_norm(honest), honest.mean(0)
        places = view.malicious.nonzero().squeeze(1).tolist()
        noise = torch.stack([torch.randn(len(mean), generator=view.generators[k]) for k in places]).to(mean)
        noise = torch.where(view.active, noise, 0.0)
        for base in (-step, -mean, reversed_mean(honest, view.weights, view.layout, 1.0, 1.0)):
            if not float(base.norm()) > TINY:
                continue
            along = base / base.norm()
            across = noise - (noise @ along)[:, None] * along
            across = across / across.norm(dim=1, keepdim=True).clamp_min(TINY)
            for alike in ALIKE:
                rows = math.sqrt(alike) * along + math.sqrt(1 - alike) * across
                for length in LENGTHS:
                    yield self.strength * length * typical * rows
