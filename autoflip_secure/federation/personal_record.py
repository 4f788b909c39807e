"""One personal evaluation as it is recorded."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.records.personal import ClientAccuracies, PersonalAccuracy


@dataclass(frozen=True)
class PersonalTest:
    """One evaluation of one cell."""

    clients: list[int]  # the honest ones
    accuracy: Float[Tensor, " clients"]
    loss: Float[Tensor, " clients"]

    def summary(self, global_accuracy: float) -> PersonalAccuracy:
        """As it is recorded, beside the accuracy of the global model on the test set."""
        return PersonalAccuracy(
            mean=float(self.accuracy.mean()),
            worst=float(self.accuracy.min()),
            spread=float(self.accuracy.std(correction=0)),
            global_accuracy=global_accuracy,
        )

    @property
    def mean_loss(self) -> float:
        """Over clients."""
        return float(self.loss.mean())

    def by_client(self, cell: Cell) -> ClientAccuracies:
        """Client by client."""
        held_out = [len(cell.problem.held_out[k]) for k in self.clients]
        return ClientAccuracies(clients=self.clients, held_out=held_out, accuracy=self.accuracy.tolist())
