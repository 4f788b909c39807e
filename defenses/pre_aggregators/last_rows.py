r"""The last row of every client, sampled or not: memory-based aggregation (MIFA, Gu et al. 2021).

.. math:: m_k \leftarrow \beta m_k + (1 - \beta) u_k \text{ for who takes part}, \qquad
          \text{rows} = \{m_k : k \text{ was ever seen}\}

A step is made of what all clients last said, not of the few that were drawn. So it is less noisy where their data
differ, and malicious clients are the share of the rows that they are of all clients: no cohort has a majority of them.
With a momentum :math:`\beta` it is the delayed momentum of every client at the server.

The price is as many numbers as clients times parameters, and rows that were trained on an older model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import ClientRows, Mixture, PreAggregator, RowsView
from autoflip_secure.interfaces.known_attacks import OF_RECALL, Known


@dataclass(frozen=True)
class LastRow:
    """What one client said last."""

    update: Float[Tensor, " params"]
    samples: Float[Tensor, ""]
    shrinkage: Float[Tensor, ""]


Memory = tuple[LastRow | None, ...]  # of every client; None: not seen yet


class LastRows(PreAggregator):
    """The last update of every client, absent ones too; keeps clients x parameters numbers. Stands first."""

    kind: Literal["last_rows"] = "last_rows"
    source: ClassVar[str] = "Gu et al. 2021 (MIFA): rows of all clients seen, m_k <- beta m_k + (1 - beta) u_k"
    known_by: ClassVar[Known] = OF_RECALL
    remembers: ClassVar[bool] = True
    momentum: Annotated[float, Field(ge=0, lt=1, description="beta, what is kept of a client's earlier rows")] = 0.0

    def start(self, clients: int) -> Memory:
        """Nobody was seen."""
        return (None,) * clients

    def recall(self, memory: Memory, rows: ClientRows, mask: Bool[Tensor, " params"]) -> tuple[ClientRows, Memory]:
        """The round's rows, then those of absent clients by number."""
        here = rows.clients.tolist()
        after = list(memory)
        for place, k in enumerate(here):
            row = rows.updates[place].clone()  # else it would keep the rows of its whole round in memory
            after[k] = self._mixed(memory[k], LastRow(row, rows.samples[place], rows.shrinkage[place]))
        order = here + sorted({k for k, one in enumerate(after) if one is not None} - set(here))
        known = [one for one in (after[k] for k in order) if one is not None]
        updates = torch.stack([one.update for one in known])
        found = ClientRows(
            torch.tensor(order, device=rows.clients.device),
            updates if bool(mask.all()) else torch.where(mask, updates, 0.0),
            torch.stack([one.samples for one in known]),
            torch.stack([one.shrinkage for one in known]),
        )
        return found, tuple(after)

    def _mixed(self, old: LastRow | None, new: LastRow) -> LastRow:
        if old is None or self.momentum == 0:
            return new
        update = self.momentum * old.update + (1 - self.momentum) * new.update
        shrinkage = self.momentum * old.shrinkage + (1 - self.momentum) * new.shrinkage
        return replace(new, update=update, shrinkage=shrinkage)

    def mix(self, view: RowsView) -> Mixture:
        """Rows stay as they are."""
        return Mixture(view.updates, torch.eye(len(view.updates)).to(view.updates))
