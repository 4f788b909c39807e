"""A block of cells: the local training of all of them goes to the trainer at once, which is where the time goes.

The order inside a round (``record.PIPELINE``) is the same for every algorithm.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from autoflip_secure.cell import Cell
from autoflip_secure.clients import UNUSABLE, attack_updates, client_jobs, privacy_view, usable_rows
from autoflip_secure.costs import CostModel
from autoflip_secure.errors import InputError
from autoflip_secure.exploration import explore
from autoflip_secure.interfaces import ClientJob, Exploration
from autoflip_secure.parameters import Layout
from autoflip_secure.record import RunRecord, TrainerChoice
from autoflip_secure.recording import Logbook, Outcome
from autoflip_secure.secure_rounds import secret_landscape, timed
from autoflip_secure.secure_sum import Connect, Passage, SecureSum
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.server import ServerState, begin, finish_round, plan_round
from autoflip_secure.threads import one_thread
from autoflip_secure.training import Trainer, evaluate, promised_bits

_Explored = tuple[Exploration, list[str], Passage | None]
_Nothing = tuple[None, list[str], None]
Sums = Callable[[Cell], SecureSum | None]


def _session(cell: Cell, connect: Connect | None) -> SecureSum | None:
    """The parties of a cell; None: it does without."""
    config = cell.protocol.secure_sum
    if config is None:
        return None
    if connect is None:
        raise InputError(
            "secure_sum: this run has no parties to connect to; run it as a sweep, or set secure_sum: none"
        )
    return connect(config)


class Watcher:
    """Looks on without a hand in it: what the server receives, for audits. Override what is of interest."""

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        """Deviations (explorers, params) as they reach the server."""

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        """Updates (participants that sent finite ones, params) as they reach the server, and the state around them."""


@dataclass
class _Explorer:
    """One client exploring: the copy of the weights that is its own, and how its loss goes."""

    job: ClientJob
    patience: int | None
    deviation: Tensor
    losses: list[float] = field(default_factory=list)
    stale: int = 0  # epochs since the lowest loss

    @property
    def running(self) -> bool:
        """Whether it still trains."""
        return self.patience is None or self.stale < self.patience

    def next_job(self, stage: int) -> ClientJob:
        """Go on from where it stands; the first stage draws its mini-batches at the plain address."""
        address = (*self.job.address, stage) if stage else self.job.address
        return replace(self.job, start=self.job.start + self.deviation, address=address)

    def moved(self, update: Tensor, losses: list[float]) -> None:
        """Note one stage."""
        self.stale = 0 if losses[-1] < min(self.losses, default=math.inf) else self.stale + 1
        self.deviation = self.deviation + update
        self.losses += losses


def _identity(job: ClientJob) -> tuple[object, ...]:
    """Equal for two jobs that compute the same: cells that differ in algorithm share an exploration without noise."""
    tensors, named = (job.start, job.samples, job.labels), (job.seed, job.address, job.private, job.draws)
    return (*named, *(hashlib.sha256(t.cpu().numpy().tobytes()).digest() for t in tensors))


def _explore(cells: Sequence[Cell], trainer: Trainer, watch: Watcher, sums: Sums) -> Iterator[_Explored]:
    """Phase 1 of several cells in one stacked program, epoch by epoch where someone may stop early.

    Landscapes come one at a time, so that only one cell's copies are in memory.
    """
    if not cells:
        return
    first = cells[0]
    config = first.protocol.exploration  # epochs, lr and patience are the same in all cells of a block
    crews: list[tuple[Tensor, list[_Explorer]]] = []
    known: dict[tuple[object, ...], _Explorer] = {}
    for cell in cells:
        count = cell.protocol.exploration.explorers or len(cell.problem.clients)
        clients, start = cell.draw(Purpose.EXPLORERS, count), cell.problem.initial
        jobs = client_jobs(cell, start, torch.ones_like(start, dtype=torch.bool), clients, 0)
        fresh = {_identity(job): _Explorer(job, config.patience, torch.zeros_like(start)) for job in jobs}
        known = {**fresh, **known}
        crews.append((clients, [known[identity] for identity in fresh]))
    stages = [config.epochs] if config.patience is None else [1] * config.epochs
    for stage, epochs in enumerate(stages):
        running = [explorer for explorer in known.values() if explorer.running]
        if not running:
            break
        schedule = config.schedule(first.protocol.training, epochs)
        jobs = [explorer.next_job(stage) for explorer in running]
        trained = trainer.train(first.problem.module, first.problem.layout, first.problem.x_train, jobs, schedule)
        for explorer, update, losses in zip(running, trained.updates, trained.losses.tolist(), strict=True):
            explorer.moved(update, losses)
    for cell, (clients, crew) in zip(cells, crews, strict=True):
        yield _landscape(cell, clients, crew, watch, sums(cell))


def _landscape(cell: Cell, clients: Tensor, crew: list[_Explorer], watch: Watcher, sums: SecureSum | None) -> _Explored:
    """Attack the explorers' deviations as bad clients do, leave out what is not finite, and combine the rest.

    Frozen coordinates are taken out before and put back, with energy 0, after: shares of the coordinates mean others.
    """
    layout = cell.problem.layout
    deviations = torch.stack([explorer.deviation for explorer in crew])
    sent = attack_updates(cell, deviations, clients, torch.ones_like(cell.problem.initial, dtype=torch.bool), 0)
    trained = layout.trained.to(sent.device)
    sent = torch.where(trained, sent, 0.0)
    if cell.protocol.client_level is not None:
        sent = cell.protocol.client_level.explore(sent, privacy_view(cell, clients, trained, 0))
    usable = usable_rows(sent)
    here = clients.to(sent.device)[usable]
    samples = torch.tensor([float(len(cell.problem.clients[k])) for k in here.tolist()], device=sent.device)
    losses = [explorer.losses for explorer, ok in zip(crew, usable.tolist(), strict=True) if ok]
    left_out = clients[(~usable).cpu()].tolist()
    events = [f"exploration: client {k} sent deviations that are {UNUSABLE}: left out" for k in left_out]
    if len(here) == 0:
        events = [
            "exploration: no explorer sent finite deviations: flat landscape (lower exploration.lr or training.lr)"
        ]
    config = cell.protocol.exploration
    if sums is None:
        watch.exploration(cell, here, sent[usable])
        landscape = explore(here, samples, layout.of_sent(sent[usable]), config.method, losses, config.reveal)
        return replace(_everywhere(landscape, layout), rejected=tuple(left_out)), events, None
    draws, owners = generator(cell.seed, Purpose.SECURE_CHECKS, 0), tuple(here.tolist())
    with timed(sums) as through:
        landscape, revealed, more, watched = secret_landscape(
            owners, layout.of_sent(sent[usable]), samples, losses, config.reveal, draws, sums
        )
    dropped = [k for k in owners if k not in landscape.clients.tolist()]
    landscape = replace(_everywhere(landscape, layout), rejected=tuple(sorted([*left_out, *dropped])))
    return landscape, events + more, through(len(landscape.clients), revealed, watched)


def _everywhere(landscape: Exploration, layout: Layout) -> Exploration:
    """A landscape of the sent coordinates as one of all."""
    energy, deviations = (layout.spread(x, layout.sent) for x in (landscape.energy, landscape.deviations))
    return replace(landscape, energy=energy, deviations=deviations)


def _landscapes(cells: Sequence[Cell], trainer: Trainer, watch: Watcher, sums: Sums) -> Iterator[_Explored | _Nothing]:
    """Phase 1, cell by cell; nothing where nobody explores."""
    found = _explore([cell for cell in cells if cell.protocol.explores], trainer, watch, sums)
    for cell in cells:
        yield next(found) if cell.protocol.explores else (None, [], None)


def _round(
    cells: Sequence[Cell], states: Sequence[ServerState], trainer: Trainer, watch: Watcher, sums: Sums
) -> list[tuple[ServerState, Outcome]]:
    """One round of several cells: plan each, train all at once, finish each, and show it."""
    plans = [plan_round(cell, state) for cell, state in zip(cells, states, strict=True)]
    jobs = [job for _, own in plans for job in own]
    problem = cells[0].problem
    trained = trainer.train(problem.module, problem.layout, problem.x_train, jobs, cells[0].protocol.training)
    results, row = [], 0
    for cell, state, (clients, own) in zip(cells, states, plans, strict=True):
        rows = slice(row, row := row + len(own))
        after, outcome = finish_round(cell, state, clients, trained.updates[rows], sums(cell))
        loss = float(trained.losses[rows, -1].mean())
        results.append((after, replace(outcome, train_loss=loss if math.isfinite(loss) else None)))
        if not cell.protocol.secret_updates:
            here = [k for k in outcome.participants if k not in outcome.rejected]
            watch.round(cell, state, torch.tensor(here, dtype=torch.long), outcome.sent, after)
    return results


def _test(cells: Sequence[Cell], states: Sequence[ServerState]) -> list[tuple[float, float] | None]:
    """(accuracy, loss) on the test set for the cells that are due in this round; all in one stacked program."""
    due = [
        state.round % cell.protocol.evaluate_every == 0 or state.round == cell.protocol.rounds
        for cell, state in zip(cells, states, strict=True)
    ]
    if not any(due):
        return [None] * len(cells)
    problem = cells[0].problem
    vectors = torch.stack([state.weights for state, is_due in zip(states, due, strict=True) if is_due])
    accuracy, loss = evaluate(problem.module, problem.layout, vectors, problem.x_test, problem.y_test)
    measured = iter(zip(accuracy.tolist(), loss.tolist(), strict=True))
    return [next(measured) if is_due else None for is_due in due]


@one_thread()
def run_cells(
    cells: Sequence[Cell],
    trainer: Trainer,
    progress: Callable[[int, int], None] | None = None,
    watch: Watcher | None = None,
    connect: Connect | None = None,
) -> list[RunRecord]:
    """Run a block of cells that share data, model, rounds and schedules; seeds, partitions and algorithms may differ.

    Args:
        cells: at least one. Same ``x_train``, layout, rounds, training and exploration schedules in all of them.
        trainer: does the local training of all cells in one stacked program, or one client at a time.
        progress: called after every round with (rounds done, rounds in all).
        watch: is shown what the server receives; nothing of what passes through parties, whose sums it can derive.
        connect: opens the session with the parties of a cell that asks for secure sums.

    Returns:
        One record per cell, in order.

    Raises:
        SecureSumError: a party failed.
    """
    sums = partial(_session, connect=connect)
    began = time.perf_counter()
    first, rounds = cells[0].problem, cells[0].protocol.rounds
    costs = CostModel(
        first.module,
        first.layout,
        first.chain,
        first.chain_reason,
        first.x_train[:1],
        cells[0].protocol.training.batch_size,
    )
    books = [Logbook(cell, costs) for cell in cells]
    watch = watch or Watcher()
    states, how = [], _how(cells, trainer)
    explored = _landscapes(cells, trainer, watch, sums)
    for cell, book, (landscape, events, passage) in zip(cells, books, explored, strict=True):
        states.append(begin(cell, landscape))
        book.open(landscape, states[-1].guidance, events, passage)
    for done in range(1, rounds + 1):
        results = _round(cells, states, trainer, watch, sums)
        states = [state for state, _ in results]
        for book, (_, outcome), test in zip(books, results, _test(cells, states), strict=True):
            book.add(outcome, test)
        if progress is not None:
            progress(done, rounds)
    seconds = (time.perf_counter() - began) / len(cells)
    return [book.close(state.mask, state.guidance, how, seconds) for book, state in zip(books, states, strict=True)]


@one_thread()
def watch_cells(cells: Sequence[Cell], trainer: Trainer, watch: Watcher) -> None:
    """The same runs as :func:`run_cells`, in the open, for who looks on alone: nothing is tested, counted or recorded.

    Args:
        cells: as for :func:`run_cells`.
        trainer: does the local training.
        watch: is shown what the server receives.

    Raises:
        InputError: a cell asks for secure sums.
    """
    sums = partial(_session, connect=None)
    explored = _landscapes(cells, trainer, watch, sums)
    states = [begin(cell, landscape) for cell, (landscape, _, _) in zip(cells, explored, strict=True)]
    for _ in range(cells[0].protocol.rounds):
        states = [state for state, _ in _round(cells, states, trainer, watch, sums)]


def _how(cells: Sequence[Cell], trainer: Trainer) -> TrainerChoice:
    """The trainer, and whether what it computes depends on what else is in the block."""
    problem, schedule = cells[0].problem, cells[0].protocol.training
    models = sum(len(cell.problem.clients) for cell in cells)
    kinds = {
        steps is None: steps
        for cell in cells
        for steps in (cell.private_steps(client, 1) for client in range(len(cell.problem.clients)))
    }
    found = {
        promised_bits(
            trainer, problem.module, problem.layout, problem.x_train, problem.initial, schedule, models, private
        )
        for private in kinds.values()
    }
    return TrainerChoice(
        kind=trainer.kind,
        reason=trainer.reason,
        device=str(trainer.device),
        bits="stack" if found == {"stack"} else "block",
    )
