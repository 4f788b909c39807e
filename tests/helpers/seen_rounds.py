"""A watcher that keeps what the server has: its states, and what it was sent in each round."""

from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher


class Seen(Watcher):
    """Everything that the server has."""

    def __init__(self) -> None:
        self.states: list[ServerState] = []
        self.sent: list[Tensor] = []

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.states.append(state)

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.sent.append(sent)
