"""What the server would make of rows that an attacker thinks of sending: the same steps, and nothing is remembered."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.federation.aggregating import aggregate_cells, own_state
from autoflip_secure.federation.attacking import Defence
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channel_rounds import delivered, sent_beside
from autoflip_secure.federation.channels import Measured
from autoflip_secure.federation.clients import Usable
from autoflip_secure.federation.deciding import of_all, question
from autoflip_secure.federation.scored_rounds import on_the_wire
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import Aggregate
from autoflip_secure.models.masks import kept


def defence_of(cell: Cell, state: ServerState, clients: Tensor, measured: Measured) -> Defence | None:
    """What somebody knows who knows the defence, before a round; None where the server itself sees no rows."""
    protocol, round_ = cell.protocol, state.round + 1
    if cell.visibility.secret or protocol.client_level is not None:
        return None

    def trial(rows: Float[Tensor, "clients params"]) -> Aggregate:
        sent = on_the_wire(cell, kept(rows, state.travelling(cell.problem.layout)), state.weights, state.mask)
        brought = delivered(cell, clients, sent_beside(cell, clients, measured, round_), sent, None, round_)
        (usable,) = Usable.of(brought.usable)
        if not usable.anybody:
            nobody = torch.zeros(len(sent), device=sent.device)
            scores = nobody if protocol.aggregator.scores_clients else None
            return Aggregate(torch.zeros_like(state.weights), nobody, scores, state.aggregator)
        (found,) = aggregate_cells([question(cell, state, clients, sent, usable, brought.received or {}, None)])
        return replace(
            found,
            trust=of_all(found.trust, usable),
            scores=None if found.scores is None else of_all(found.scores, usable),
            statistics={name: of_all(value, usable) for name, value in found.statistics.items()},
        )

    own = own_state(state.aggregator)
    return Defence(protocol.aggregator, own, state.guidance, state.exploration, state.root, trial)
