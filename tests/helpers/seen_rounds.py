"""A watcher that keeps what the server has: its states, and what it was sent in each round."""

from typing import Any

from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.run import RunRecord
from autoflip_secure.training import choose_trainer


class Seen(Watcher):
    """Everything that the server has; states, weights and masks from before the first round."""

    def __init__(self) -> None:
        self.states: list[ServerState] = []
        self.before: list[ServerState] = []  # what each round starts from
        self.sent: list[Tensor] = []

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.states.append(state)

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.before.append(before)
        self.sent.append(sent)

    @property
    def weights(self) -> list[Tensor]:
        return [state.weights for state in self.states]

    @property
    def masks(self) -> list[Tensor]:
        return [state.mask for state in self.states]


def watched(one: Cell, kind: str = "auto", **options: Any) -> tuple[RunRecord, Seen]:
    """A run of one cell; ``options`` are those of :func:`run_cells`."""
    seen, problem = Seen(), one.problem
    trainer = choose_trainer(problem.module, problem.layout, problem.x_train[:1], kind=kind)
    return run_cells([one], trainer, watch=seen, **options)[0], seen
