"""Before round 1 one client trains alone, where the pruner asks for it: stage by stage, from where it stands.

It is drawn by seed, and so are its rows. Between two stages nothing leaves it. At the end its live weights and its mask
go up, as malicious clients change theirs in round 0, and are what round 1 begins with. Stages of several cells are
trained together where they are equally long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autoflip_secure.federation.attacking import attack_updates
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import UNUSABLE, client_jobs, usable_rows
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import ClientJob, LoneStage, LoneView
from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.models.uses import uses_of_weights
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer, evaluate

_CLIENT, _ROWS = (0, 0), (0, 1)  # addresses below PRUNING


@dataclass(frozen=True)
class LoneWork:
    """What was computed under one mask."""

    mask: Tensor
    trained: int = 0  # samples, forward and backward
    measured: int = 0  # samples, forward alone
    dense: bool = False  # gradients of pruned weights were summed up too


@dataclass(frozen=True)
class LoneTraining:
    """What one client did alone."""

    client: int
    malicious: bool
    rejected: bool
    samples: int
    passes: int
    changes: int  # of its mask
    mask: Tensor  # (params,), at the end
    work: tuple[LoneWork, ...]
    events: tuple[str, ...]


@dataclass
class _Lone:
    """One client while it trains."""

    cell: Cell
    client: int
    job: ClientJob  # of the first stage, with its chosen rows
    x: Tensor
    weights: Tensor
    mask: Tensor
    stage: LoneStage | None = None
    sums: dict[Accumulated, Tensor] = field(default_factory=dict)
    memory: Any = None
    passes: int = 0
    stages: int = 0
    changes: int = 0
    measured: int = 0  # samples, in this stage
    work: list[LoneWork] = field(default_factory=list)

    def ask(self) -> None:
        """What comes next, and make its mask this one's."""
        problem, pruner = self.cell.problem, self.cell.protocol.pruner
        self.measured = 0
        view = LoneView(
            layout=problem.layout,
            units=problem.units,
            weights=self.weights,
            mask=self.mask,
            passes=self.passes,
            sums=self.sums,
            memory=self.memory,
            num_classes=problem.num_classes,
            accuracy=self._accuracy,
            multiply_adds=partial(uses_of_weights, problem.module, problem.layout, problem.x_train[:1]),
        )
        stage = pruner.lone_stage(view)
        mask = stage.mask | problem.layout.frozen.to(stage.mask.device)
        before = self.mask
        if not torch.equal(mask, self.mask):
            self.mask, self.changes = mask, self.changes + 1
            self.weights = torch.where(mask, self.weights, 0.0)
        self.work.append(LoneWork(before, measured=self.measured))
        self.work.append(LoneWork(self.mask, len(self.job.samples) * stage.passes, dense=bool(stage.accumulate)))
        self.stage, self.memory = stage, stage.memory

    def _accuracy(self) -> float:
        self.measured += len(self.job.samples)
        problem = self.cell.problem
        found, _ = evaluate(
            problem.module, problem.layout, self.weights[None], self.x[self.job.samples], self.job.labels
        )
        return float(found[0])

    def next_job(self) -> ClientJob:
        """The stage as a job; mini-batches are drawn at (0, client, stage, 0)."""
        assert self.stage is not None
        return replace(
            self.job,
            start=self.weights,
            mask=None if bool(self.mask.all()) else self.mask,
            address=(0, self.client, self.stages, 0),
            accumulate=self.stage.accumulate,
        )

    def moved(self, update: Tensor, sums: dict[Accumulated, Tensor]) -> None:
        """Note one stage."""
        assert self.stage is not None
        self.weights = self.weights + update
        self.sums, self.stages, self.passes = sums, self.stages + 1, self.passes + self.stage.passes


def train_alone(
    cells: Sequence[Cell], states: Sequence[ServerState], trainer: Trainer, inputs: PoisonedInputs
) -> list[tuple[ServerState, LoneTraining | None]]:
    """The states that round 1 begins with, and what was done for them; None where the pruner asks for nothing."""
    alone = [
        _drawn(cell, state) if cell.protocol.pruner.begins_alone else None
        for cell, state in zip(cells, states, strict=True)
    ]
    running = [one for one in alone if one is not None]
    if not running:
        return [(state, None) for state in states]
    x, rows = inputs.of(
        [one.cell for one in running], [0] * len(running), [one.client for one in running],
        [one.job.samples for one in running],
    )  # fmt: skip
    for one, samples in zip(running, rows, strict=True):
        one.job, one.x = replace(one.job, samples=samples), x
    while running := [one for one in running if _goes_on(one)]:
        for passes in sorted({one.stage.passes for one in running if one.stage is not None}):
            _train([one for one in running if one.stage is not None and one.stage.passes == passes], passes, trainer)
    return [(state, None) if one is None else _finished(one, state) for one, state in zip(alone, states, strict=True)]


def _drawn(cell: Cell, state: ServerState) -> _Lone:
    """The client and its rows."""
    problem, draws = cell.problem, partial(generator, cell.seed, Purpose.PRUNING)
    client = int(torch.randint(len(problem.clients), (1,), generator=draws(*_CLIENT)))
    (job,) = client_jobs(cell, state.weights, state.mask, torch.tensor([client]), 0)
    places = torch.randperm(len(job.samples), generator=draws(*_ROWS))[: cell.protocol.pruner.lone_samples]
    job = replace(job, samples=job.samples[places], labels=job.labels[places.to(job.labels.device)])
    return _Lone(cell, client, job, problem.x_train, state.weights, state.mask)


def _goes_on(one: _Lone) -> bool:
    one.ask()
    return one.stage is not None and one.stage.passes > 0


def _train(alike: Sequence[_Lone], passes: int, trainer: Trainer) -> None:
    """One stage of clients that make as many passes."""
    problem, schedule = alike[0].cell.problem, alike[0].cell.protocol.training
    trained = trainer.train(
        problem.module, problem.layout, alike[0].x, [one.next_job() for one in alike],
        schedule.model_copy(update={"epochs": passes}),
    )  # fmt: skip
    for row, one in enumerate(alike):
        assert one.stage is not None
        one.moved(trained.updates[row], {name: trained.sums[name][row] for name in one.stage.accumulate})


def _finished(one: _Lone, state: ServerState) -> tuple[ServerState, LoneTraining]:
    """What it sends, as malicious clients change it, and what the server makes of it."""
    cell, layout = one.cell, one.cell.problem.layout
    clients = torch.tensor([one.client])
    attacked = attack_updates(
        cell, (one.weights - state.weights)[None], clients, torch.ones_like(state.mask), 0, state.weights
    )
    usable = bool(usable_rows(attacked.rows)[0])
    events = [f"before training: {event}" for event in attacked.events]
    if not usable:
        events.append(f"before training: client {one.client} sent a model that is {UNUSABLE}: training begins without")
    done = LoneTraining(
        client=one.client,
        malicious=bool(cell.malicious_in(0)[one.client]),
        rejected=not usable,
        samples=len(one.job.samples),
        passes=one.passes,
        changes=one.changes,
        mask=one.mask,
        work=tuple(one.work),
        events=tuple(events),
    )
    if not usable:
        return state, done
    weights = torch.where(one.mask, state.weights + layout.still(attacked.rows[0]), 0.0)
    momentum = None if state.momentum is None else torch.where(one.mask, state.momentum, 0.0)
    return replace(state, weights=weights, mask=one.mask, momentum=momentum), done
