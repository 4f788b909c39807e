"""Who looks on: audits are shown what the server receives, and have no hand in it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.state import ServerState


class Watcher:
    """Looks on without a hand in it: what the server receives, for audits. Override what is of interest."""

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        """Deviations (explorers, params) as they reach the server."""

    def prepared(self, cell: Cell, clients: Tensor, sent: Mapping[str, Tensor], means: Mapping[str, Tensor]) -> None:
        """Before training: a row (clients that sent usable ones, size) of each channel, and what was made of them."""

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        """Updates (participants that sent finite ones, params) as they reach the server, and the state around them."""

    def channels(self, cell: Cell, before: ServerState, clients: Tensor, sent: Mapping[str, Tensor]) -> None:
        """What the same participants sent besides in that round: a row (participants, size) of each channel."""

    def learned(self, cell: Cell, before: ServerState, means: Mapping[str, Tensor]) -> None:
        """What the server made of each channel's rows (size,): a mean, noised where the server adds the noise."""

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        """The global model before round 1 and after every round, with its test accuracy where it was evaluated."""
