"""From what a round's clients trained to what the server has of it: attacked, protected, on the wire, filtered."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.federation.attack_trial import defence_of
from autoflip_secure.federation.attacking import Attacked, attack_updates
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channel_rounds import Delivered, Sent, delivered, sent_beside
from autoflip_secure.federation.channels import Measured
from autoflip_secure.federation.clients import privacy_view
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.scored_rounds import honest_rows, on_the_wire
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import PrivacyView
from autoflip_secure.secure_rows.secure_sum import SecureSum


@dataclass(frozen=True)
class Cohort:
    """One cell's participants in one round, and what they trained."""

    clients: Int[Tensor, " clients"]
    updates: Float[Tensor, "clients params"]  # as they came out of training
    measured: Measured  # the honest rows of the round's other channels
    sums: SecureSum | None = None  # where secret updates go through
    own: Masking | None = None  # masks of the clients' own; None: all hold the state's
    train_loss: float | None = None  # of the last epoch, mean over them; None: it is not finite


@dataclass(frozen=True)
class Arrived:
    """What came of one cell's round so far."""

    attacked: Attacked
    raw: Float[Tensor, "clients params"]  # before client-level noise
    view: PrivacyView | None  # at client level
    sent: Float[Tensor, "clients params"]
    beside: Sent
    brought: Delivered

    @property
    def usable(self) -> Bool[Tensor, " clients"]:
        """Whose rows can be computed with."""
        return self.brought.usable


def arrive(cell: Cell, state: ServerState, cohort: Cohort) -> Arrived:
    """One round, up to where the server decides."""
    protocol, round_, clients = cell.protocol, state.round + 1, cohort.clients
    private, masks = protocol.client_level, state.mask if cohort.own is None else cohort.own.masks
    updates = honest_rows(cell, state, clients, cohort.updates, cohort.own)
    defence = defence_of(cell, state, clients, cohort.measured)
    attacked = attack_updates(cell, updates, clients, masks, round_, state.weights, state.attack, defence)
    raw, sent, view = on_the_wire(cell, attacked.rows, state.weights, masks), None, None
    if private is not None:
        travelling = state.travelling(cell.problem.layout)
        view = privacy_view(cell, clients, travelling, round_, weights=state.weights)
        sent = private.send(state.privacy, raw, view)
    sent = raw if sent is None else sent
    beside = sent_beside(cell, clients, cohort.measured, round_)
    return Arrived(attacked, raw, view, sent, beside, delivered(cell, clients, beside, sent, cohort.sums, round_))
