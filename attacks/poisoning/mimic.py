r"""Mimic: all malicious clients copy one honest client, so that it counts for many, and the others for less.

.. math:: u_k \leftarrow h_{i^*}, \qquad i^* = \arg\max_i |\langle h_i - \mu, v \rangle|

v is the leading principal direction of the honest rows, kept over the first rounds as a running mean (one power step a
round) and fixed afterwards (Karimireddy et al. 2022). Nobody's row leaves the honest ones: no rule that looks at rows
can tell, and what is lost is what other clients know.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.interfaces import AttackView, RowAttack, Threat


def principal_direction(centred: Float[Tensor, "rows params"]) -> Float[Tensor, " params"]:
    """The leading right singular vector, from the small Gram matrix; its largest entry is positive. 0 of zero rows."""
    values, vectors = torch.linalg.eigh(centred.double() @ centred.double().T)
    found: Tensor = centred.double().T @ vectors[:, -1]
    if float(values[-1]) <= 0 or float(found.norm()) == 0:
        return torch.zeros_like(centred[0])
    found = found / found.norm()
    signed: Tensor = found * found[found.abs().argmax()].sign()
    return signed.to(centred)


class Mimic(RowAttack):
    """Malicious clients all copy the honest client that stands out most, or a fixed one."""

    kind: Literal["mimic"] = "mimic"
    source: ClassVar[str] = "Karimireddy et al. 2022"
    equation: ClassVar[str] = "u = h_i*, i* = argmax_i |<h_i - mu, v>|, v the leading principal direction of H"
    threat: ClassVar[Threat] = Threat("rows", ("update", "exploration"), memory=True)
    index: Annotated[int, Field(ge=0, lt=100_000)] | None = Field(
        default=None, description="place among the honest participants of who is copied; null = who stands out most"
    )
    warmup: Annotated[int, Field(ge=1, le=100_000, description="rounds over which the direction is learned")] = 10

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Copy one row; the memory is (rounds seen, v)."""
        rows = view.honest_rows
        if self.index is not None:
            return view.sending(rows[self.index % len(rows)]), view.memory
        centred = rows - rows.mean(0)
        seen, v = view.memory or (0, torch.zeros_like(rows[0]))
        if seen < self.warmup:
            step = principal_direction(centred) if seen == 0 else centred.T @ (centred @ v)
            v = seen / (seen + 1) * v + step / step.norm().clamp_min(TINY) / (seen + 1)
            v, seen = v / v.norm().clamp_min(TINY), seen + 1
        return view.sending(rows[int((centred @ v).abs().argmax())]), (seen, v)
