"""Whether a module is trained by a program by hand, and the trainer that has none."""

from __future__ import annotations

from torch import Tensor, nn

from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training import StackedTrainer
from autoflip_secure.training.base import Work
from autoflip_secure.training.chain import ChainProgram, chain_program

SCHEDULES = {
    "sgd": TrainingSchedule(lr=0.1, batch_size=16, epochs=2),
    "momentum and decay": TrainingSchedule(lr=0.05, momentum=0.5, weight_decay=0.1, batch_size=10, epochs=2),
    "adam": TrainingSchedule(optimizer="adam", lr=1e-3, batch_size=16, epochs=1),
}


class ByAutograd(StackedTrainer):
    """As everything was trained before there were programs by hand, and as other modules still are."""

    def _program(self, work: Work, names: list[str]) -> None:
        return None


def names_of(module: nn.Module) -> list[str]:
    return [segment.name for segment in Layout.of(module)]


def program_of(module: nn.Module, x: Tensor) -> ChainProgram | None:
    return chain_program(module, names_of(module), x[[0, -1]])
