"""Clients that explore: their copy of the weights, and those whom a sweep has met before."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.explored_before import ExploredBefore
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.models.masks import PerMask
from autoflip_secure.training import Trainer


@dataclass
class Explorer:
    """One client exploring: the copy of the weights that is its own, and how its loss goes."""

    job: ClientJob
    patience: int | None
    deviation: Tensor
    losses: list[float] = field(default_factory=list)
    stale: int = 0  # epochs since the lowest loss
    known: bool = False  # from an earlier block

    @property
    def running(self) -> bool:
        """Whether it still trains."""
        return not self.known and (self.patience is None or self.stale < self.patience)

    def next_job(self, stage: int) -> ClientJob:
        """Go on from where it stands; the first stage draws its mini-batches at the plain address."""
        address = (*self.job.address, stage) if stage else self.job.address
        return replace(self.job, start=self.job.start + self.deviation, address=address)

    def moved(self, update: Tensor, losses: list[float]) -> None:
        """Note one stage."""
        self.stale = 0 if losses[-1] < min(self.losses, default=math.inf) else self.stale + 1
        self.deviation = self.deviation + update
        self.losses += losses


#: of a tensor's bytes; the explorers of a cell start from one, and many of a block own the same samples
_content = PerMask(lambda tensor: hashlib.sha256(tensor.cpu().numpy().tobytes()).digest())


def identity_of(job: ClientJob) -> tuple[object, ...]:
    """Equal for two jobs that compute the same: cells that differ in algorithm share an exploration without noise."""
    tensors, named = (job.start, job.samples, job.labels), (job.seed, job.address, job.private, job.draws)
    return (*named, *map(_content, tensors))


class Remembered:
    """The explorers of a block among those of earlier blocks; private ones, and on changed inputs, never are."""

    def __init__(self, before: ExploredBefore | None, first: Cell, trainer: Trainer, x: Tensor) -> None:
        problem, config = first.problem, first.protocol.exploration
        self._before = before if x is problem.x_train else None
        schedule = config.schedule(first.protocol.training)
        self._all = (problem.recipe, trainer.kind, str(trainer.device), schedule.model_dump_json(), config.patience)

    def take(self, known: Mapping[tuple[object, ...], Explorer]) -> None:
        """Give those their deviations who are remembered."""
        if self._before is None:
            return
        for identity, explorer in known.items():
            found = None if explorer.job.private is not None else self._before.get((*self._all, identity))
            if found is not None:
                explorer.deviation, explorer.losses, explorer.known = found[0], list(found[1]), True

    def keep(self, known: Mapping[tuple[object, ...], Explorer]) -> None:
        """Remember those who explored."""
        if self._before is None:
            return
        for identity, explorer in known.items():
            if not explorer.known and explorer.job.private is None:
                self._before.put((*self._all, identity), explorer.deviation, tuple(explorer.losses))
