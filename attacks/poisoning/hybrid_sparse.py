r"""Hybrid sparse attack: aggressive on the few weights that matter most, a little is enough on all others.

.. math:: u_k \leftarrow \mu - (S\,a + (1 - S)\,z)\,s

S marks, tensor by tensor, the share q of the active weights that a pruning criterion finds most sensitive: connection
sensitivity |w_j mu_j|, with the honest mean in the place of the gradient. There the row is held inside Tukey's fences
of the honest values, [Q1 - 1.5 IQR, Q3 + 1.5 IQR], so that no coordinate is an outlier by itself.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.attacks.poisoning.honest_statistics import deviation, largest_unnoticed
from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class HybridSparse(RowAttack):
    """Large deviations on the most sensitive weights of each tensor, small ones elsewhere."""

    kind: Literal["hybrid_sparse"] = "hybrid_sparse"
    source: ClassVar[str] = "Özfatura et al. 2024 (arXiv 2404.06230); the criterion is |w mu|"
    equation: ClassVar[str] = (
        "u = mu - (S a + (1 - S) z) s, S the q most sensitive |w mu| of each tensor, there within [Q1 - "
        "1.5 IQR, Q3 + 1.5 IQR]"
    )
    threat: ClassVar[Threat] = Threat("rows", ("update", "exploration"))
    sensitive: Annotated[float, Field(gt=0, le=1, description="q: share of each tensor's active weights")] = 0.005
    aggressive: Annotated[float, Field(ge=0, le=1e6, description="a: standard deviations there, before the cap")] = 20.0
    z: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        default=None, description="standard deviations elsewhere; null = ALIE's formula, told in the events"
    )

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows by one."""
        rows = view.honest_rows
        z = largest_unnoticed(len(rows), view.count) if self.z is None else self.z
        if self.z is None:
            view.tell(f"z = {z:.3f} with {len(rows)} honest and {view.count} malicious clients")
        mean, s, chosen = rows.mean(0), deviation(rows, view.held), self.chosen(view)
        row = mean - z * s
        quarters = _quarters(rows[:, chosen], None if view.held is None else view.held[:, chosen])
        reach = 1.5 * (quarters[1] - quarters[0])
        capped = (mean - self.aggressive * s)[chosen].double().clamp(quarters[0] - reach, quarters[1] + reach)
        row[chosen] = capped.to(row)
        return view.sending(row), None

    def chosen(self, view: AttackView) -> Bool[Tensor, " params"]:
        """S: of each trained tensor ceil(q · active weights), those of largest |w mu|."""
        sensitivity = (view.weights * view.honest_rows.mean(0)).abs()
        found = torch.zeros_like(view.active)
        for segment in view.layout:
            active = view.active[segment.slice]
            count = math.ceil(self.sensitive * int(active.sum()))
            if segment.trained and count:
                own = torch.where(active, sensitivity[segment.slice], -1.0)
                found[segment.slice][own.topk(count).indices] = True
        return found


def _quarters(rows: Tensor, held: Tensor | None) -> Float[Tensor, "2 chosen"]:
    """Q1 and Q3 of the honest values, of those that hold a coordinate; 0 where none does."""
    levels = torch.tensor([0.25, 0.75]).double().to(rows.device)
    if held is None:
        return torch.quantile(rows.double(), levels, dim=0)
    return torch.nanquantile(torch.where(held, rows.double(), torch.nan), levels, dim=0).nan_to_num(0)
