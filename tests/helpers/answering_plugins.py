"""Plug-ins of every family that answer what a test says, for the trial that judges answers."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    AttackView,
    ClientPruneView,
    DataAttack,
    LocalRule,
    LocalView,
    OwnMask,
    ParticipationAttack,
    Pruner,
    PruneView,
    RoundView,
    RowAttack,
    SampleAttack,
    Threat,
    UpdateAttack,
)
from autoflip_secure.scenarios.data.base import Arrays, DataSource
from autoflip_secure.scenarios.data.partitions import Partition

Answer = Callable[[Any], Any]


class Updates(UpdateAttack):
    answer: ClassVar[Answer]

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: list[torch.Generator]) -> Tensor:
        return type(self).answer((updates, malicious, generators))


class Acts(RowAttack):
    threat: ClassVar[Threat] = Threat("defence", ("update", "exploration"), memory=True)
    answer: ClassVar[Answer]

    def act(self, view: AttackView) -> tuple[Tensor, Any]:
        return type(self).answer(view)


class Counts(SampleAttack):
    answer: ClassVar[Answer]

    def samples(self, samples: Tensor) -> Tensor:
        return type(self).answer(samples)


class Pushes(ParticipationAttack):
    answer: ClassVar[Answer]

    def places(self, places: Tensor) -> Tensor:
        return type(self).answer(places)


class Labels(DataAttack):
    answer: ClassVar[Answer]

    def labels(self, labels: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
        return type(self).answer((labels, num_classes, generator))


class LabelsUnder(Labels):
    """Asked with what a model answers, and for nothing else."""

    answer: ClassVar[Answer]

    @property
    def follows_model(self) -> bool:
        return True

    def labels(self, labels: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
        raise LookupError("not asked")

    def labels_under(self, labels: Tensor, num_classes: int, generator: torch.Generator, outputs: Tensor) -> Tensor:
        return type(self).answer((labels, num_classes, generator, outputs))


class Steps(Aggregator):
    answer: ClassVar[Answer]

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        return type(self).answer(view)


class Masks(Pruner):
    answer: ClassVar[Answer]

    def mask(self, view: PruneView) -> Tensor:
        return type(self).answer(view)


class Rules(LocalRule):
    answer: ClassVar[Answer]

    def gradient(self, view: LocalView, gradients: list[Tensor]) -> list[Tensor]:
        return type(self).answer((view, gradients))


class Moves(LocalRule):
    answer: ClassVar[Answer]

    def mask(self, view: LocalView, gradients: list[Tensor], epoch: Tensor, epochs: int) -> list[Tensor]:
        return type(self).answer((view, gradients))


class Fines(LocalRule):
    answer: ClassVar[Answer]

    def penalty(self, view: LocalView) -> Tensor:
        return type(self).answer((view, []))


class Pulls(LocalRule):
    answer: ClassVar[Answer]

    @property
    def proximal(self) -> float:
        return type(self).answer(None)


class Parts(Partition):
    answer: ClassVar[Answer]

    def deal(self, labels: Any, clients: int, groups: Any, rng: np.random.Generator) -> Any:
        return type(self).answer((len(labels), clients, rng))


class Reads(DataSource):
    answer: ClassVar[Answer]

    def read(self) -> Arrays:
        return type(self).answer(None)


class Own(Masks):
    own: ClassVar[bool] = True
    client_rows: ClassVar[dict[str, str]] = {"seen": "numbers"}

    def mask(self, view: PruneView) -> Tensor:
        return view.mask

    def client_mask(self, view: ClientPruneView) -> OwnMask:
        return type(self).answer(view)


class Covering(Steps):
    own_masks: ClassVar[bool] = True


class Unknown(Steps):
    scores_clients: ClassVar[bool] = True


class Blocks(Steps):
    """Steps of several cells at once: what they get one by one, changed by ``answer``."""

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        even = torch.full((len(view.updates),), 1 / len(view.updates))
        return Aggregate(even @ view.updates, even, None, state)

    def aggregate_cells(self, states: Any, views: Any) -> list[Aggregate]:
        return type(self).answer(super().aggregate_cells(states, views))


class Scoring(Unknown):
    known_by: ClassVar[Any] = ({"kind": "greedy_oracle", "stealth": 0.9},)


class Misnamed(Steps):
    known_by: ClassVar[Any] = ("greedy_oracle",)


def arrays(seed: int | None) -> Arrays:
    x = np.random.default_rng(seed).standard_normal((6, 2)).astype(np.float32)
    return Arrays(x, np.arange(6) % 2, x, np.arange(6) % 2, ("a", "b"))
