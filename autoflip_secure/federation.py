"""The federation: state in, state out. One round is plan -> train -> finish; a block of cells shares the training.

``plan_round`` and ``finish_round`` are pure; :func:`run_cells` hands the local training of all cells of a block to the
trainer at once, which is where the time goes. The order inside a round (``record.PIPELINE``) is the same for every
algorithm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn

from autoflip_secure.costs import CostModel
from autoflip_secure.errors import InputError
from autoflip_secure.exploration import ExplorationConfig, explore
from autoflip_secure.guidance import GuidanceConfig, evolve, initial_guidance
from autoflip_secure.interfaces import (
    Aggregator,
    Attack,
    ClientJob,
    Config,
    DataAttack,
    Exploration,
    Guidance,
    NoAttack,
    Pruner,
    PruneView,
    RoundView,
    Schedule,
    UpdateAttack,
)
from autoflip_secure.parameters import Layout
from autoflip_secure.record import RunRecord
from autoflip_secure.recording import Logbook, Outcome
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer, evaluate


class Protocol(Config):
    """How a federation is run: everything but the problem and the seed."""

    rounds: Annotated[int, Field(ge=1)] = 60
    cohort: Annotated[int, Field(ge=1)] = 5
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    training: Schedule = Schedule()
    exploration: ExplorationConfig = ExplorationConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    pruner: SerializeAsAny[Pruner]
    aggregator: SerializeAsAny[Aggregator]
    attack: SerializeAsAny[Attack | NoAttack] = NoAttack()

    @property
    def explores(self) -> bool:
        """Whether phase 1 is needed: FedAvg does not pay for it."""
        return self.pruner.needs_guidance or self.aggregator.needs_guidance


@dataclass(frozen=True)
class Problem:
    """What is learned. Tensors lie on the trainer's device; ``module`` is a template and never trained."""

    module: nn.Module
    layout: Layout
    chain: Any  # structure.Chain or None
    chain_reason: str  # "ok", or why there is no chain
    x_train: Tensor
    y_train: Int[Tensor, " n"]
    x_test: Tensor
    y_test: Int[Tensor, " m"]
    num_classes: int
    clients: tuple[Int[Tensor, " n_k"], ...]  # rows of the training set owned by each client
    initial: Float[Tensor, " params"]


@dataclass(frozen=True)
class Cell:
    """One run: a problem, a protocol, a seed, and the names it is known by."""

    key: str
    config: dict[str, Any]
    axes: dict[str, Any]
    algorithm: str
    seed: int
    problem: Problem
    protocol: Protocol

    @property
    def bad_clients(self) -> Bool[Tensor, " clients"]:
        """Who is bad: drawn once per seed, nested as the scope grows, the same for every algorithm."""
        attack, clients = self.protocol.attack, len(self.problem.clients)
        bad = torch.zeros(clients, dtype=torch.bool)
        if isinstance(attack, Attack):
            if attack.clients is not None:
                bad[list(attack.clients)] = True
            else:
                order = torch.randperm(clients, generator=generator(self.seed, Purpose.BAD_CLIENTS))
                bad[order[: round(attack.scope * clients)]] = True
        return bad

    def bad_in(self, round_: int) -> Bool[Tensor, " clients"]:
        """Who acts badly in this round (0 = exploration)."""
        attack = self.protocol.attack
        active = isinstance(attack, Attack) and attack.active(round_)
        return self.bad_clients & active

    def draw(self, purpose: Purpose, count: int, *address: int) -> Int[Tensor, " count"]:
        """``count`` of the clients without replacement, in ascending order."""
        order = torch.randperm(len(self.problem.clients), generator=generator(self.seed, purpose, *address))
        return order[:count].sort().values


@dataclass(frozen=True)
class ServerState:
    """Everything the server carries from round to round."""

    round: int
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]
    exploration: Exploration | None
    guidance: Guidance | None
    aggregator: Any


# ------------------------------------------------------------------------------------------------ clients


def client_labels(cell: Cell, client: int, round_: int) -> Int[Tensor, " n"]:
    """The labels as this client sees them in this round."""
    labels = cell.problem.y_train[cell.problem.clients[client]]
    attack = cell.protocol.attack
    if isinstance(attack, DataAttack) and bool(cell.bad_in(round_)[client]):
        return attack.labels(labels, cell.problem.num_classes, generator(cell.seed, Purpose.DATA_ATTACK, client))
    return labels


def client_jobs(
    cell: Cell, weights: Tensor, mask: Tensor, clients: Tensor, round_: int, *address: int
) -> list[ClientJob]:
    """Local training of ``clients`` from ``weights``."""
    pruned = None if bool(mask.all()) else mask
    return [
        ClientJob(
            start=weights,
            samples=cell.problem.clients[k],
            labels=client_labels(cell, k, round_),
            seed=cell.seed,
            address=(round_, k, *address),
            mask=pruned,
        )
        for k in clients.tolist()
    ]


def attack_updates(
    cell: Cell, updates: Tensor, clients: Tensor, mask: Tensor, round_: int
) -> Float[Tensor, "clients params"]:
    """Rows as they are sent: bad clients change theirs, and only live coordinates travel."""
    attack, bad = cell.protocol.attack, cell.bad_in(round_)[clients]
    if isinstance(attack, UpdateAttack) and bool(bad.any()):
        draws = [generator(cell.seed, Purpose.UPDATE_ATTACK, round_, k) for k in clients.tolist()]
        active = mask & cell.problem.layout.trainable.to(mask.device)
        updates = attack.updates(updates, bad, active, draws)
    return torch.where(mask, updates, 0.0)


def finite_rows(updates: Float[Tensor, "clients params"]) -> Bool[Tensor, " clients"]:
    """Rows that can be computed with: no NaN, no infinity, and a squared norm that does not overflow."""
    return updates.square().sum(1).isfinite()


def weight_decay_shrinkage(schedule: Schedule, samples: Float[Tensor, " clients"]) -> Float[Tensor, " clients"]:
    """Share of the weights that decay alone takes off in local training (0 for Adam, where it has no closed form)."""
    if schedule.optimizer != "sgd" or schedule.weight_decay == 0:
        return torch.zeros_like(samples)
    steps = schedule.epochs * (samples / schedule.batch_size).ceil()
    return 1 - (1 - schedule.lr * schedule.weight_decay / (1 - schedule.momentum)) ** steps


# ------------------------------------------------------------------------------------------------ server


def _prune(cell: Cell, state: ServerState) -> ServerState:
    """Ask the pruner, and rescale when the mask changed."""
    protocol, problem = cell.protocol, cell.problem
    view = PruneView(
        layout=problem.layout,
        chain=problem.chain,
        weights=state.weights,
        mask=state.mask,
        exploration=state.exploration,
        guidance=state.guidance,
        round=state.round,
        rounds=protocol.rounds,
        generator=partial(generator, cell.seed, Purpose.PRUNING),
        normalisation=protocol.guidance.normalisation,
    )
    mask = protocol.pruner.mask(view)
    if mask is state.mask or torch.equal(mask, state.mask):
        return state
    return replace(state, mask=mask, weights=protocol.pruner.rescale(state.weights, state.mask, mask, view))


def begin(cell: Cell, exploration: Exploration | None) -> ServerState:
    """The state before round 1: memories seeded, initial weights pruned."""
    problem, protocol = cell.problem, cell.protocol
    weights = problem.initial
    state = ServerState(
        round=0,
        weights=weights,
        mask=torch.ones_like(weights, dtype=torch.bool),
        exploration=exploration,
        guidance=None if exploration is None else initial_guidance(exploration),
        aggregator=protocol.aggregator.start(problem.layout, weights, len(problem.clients), exploration),
    )
    return _prune(cell, state)


def plan_round(cell: Cell, state: ServerState) -> tuple[Int[Tensor, " cohort"], list[ClientJob]]:
    """Who takes part in the next round, and what they train."""
    round_ = state.round + 1
    clients = cell.draw(Purpose.COHORT, cell.protocol.cohort, round_)
    return clients, client_jobs(cell, state.weights, state.mask, clients, round_)


def finish_round(cell: Cell, state: ServerState, clients: Tensor, updates: Tensor) -> tuple[ServerState, Outcome]:
    """From the cohort's honest updates (cohort, params) to the next state."""
    problem, protocol, round_ = cell.problem, cell.protocol, state.round + 1
    device = updates.device
    sent = attack_updates(cell, updates, clients, state.mask, round_)
    usable = finite_rows(sent)
    here = clients.to(device)[usable]
    samples = torch.tensor([len(problem.clients[k]) for k in here.tolist()], dtype=torch.float32, device=device)
    scores = torch.zeros(len(clients), device=device)
    trust = torch.zeros(len(clients), device=device)
    delta = torch.zeros_like(state.weights)
    after, events = replace(state, round=round_), []
    if bool(usable.any()):
        view = RoundView(
            round=round_,
            clients=here,
            samples=samples,
            updates=sent[usable],
            weights=state.weights,
            mask=state.mask,
            guidance=state.guidance,
            layout=problem.layout,
            shrinkage=weight_decay_shrinkage(protocol.training, samples),
        )
        decision = protocol.aggregator.aggregate(state.aggregator, view)
        weights = torch.where(state.mask, state.weights + decision.delta, 0.0)
        if bool(finite_rows(weights[None]).all()):
            delta, trust[usable] = decision.delta, decision.trust
            guidance = state.guidance
            if guidance is not None:
                guidance = evolve(guidance, view.updates, decision.trust, protocol.guidance.beta)
            after = replace(after, weights=weights, guidance=guidance, aggregator=decision.state)
        else:
            events.append("no step: the aggregate would have made the global model not finite")
        if decision.scores is not None:
            scores[usable] = decision.scores
    else:
        events.append("no step: no participant sent a finite update")
    rejected = clients[(~usable).cpu()].tolist()
    if rejected:
        events.append(f"clients {', '.join(map(str, rejected))} sent an update that is not finite: filtered")
    outcome = Outcome(
        round=round_,
        participants=clients.tolist(),
        bad=cell.bad_in(round_)[clients].tolist(),
        scores=scores.tolist() if protocol.aggregator.scores_clients else None,
        trust=trust.tolist(),
        rejected=rejected,
        delta=delta,
        sent=sent[usable],
        mask=state.mask,
        samples=int(sum(len(problem.clients[k]) for k in clients.tolist())),
        events=tuple(f"round {round_}: {event}" for event in events),
    )
    return _prune(cell, after), outcome


# ------------------------------------------------------------------------------------------------ blocks of cells


def _explore(cells: Sequence[Cell], trainer: Trainer) -> list[tuple[Exploration, list[str]]]:
    """Phase 1 of several cells in one stacked program, epoch by epoch where someone may stop early."""
    config = [cell.protocol.exploration for cell in cells]
    drawn = [
        cell.draw(Purpose.EXPLORERS, c.explorers or len(cell.problem.clients))
        for cell, c in zip(cells, config, strict=True)
    ]
    jobs: list[tuple[int, int, ClientJob]] = []
    for index, (cell, clients) in enumerate(zip(cells, drawn, strict=True)):
        live = torch.ones_like(cell.problem.initial, dtype=torch.bool)
        for row, job in enumerate(client_jobs(cell, cell.problem.initial, live, clients, 0)):
            jobs.append((index, row, job))
    first = cells[0]
    deviations = [torch.zeros(len(d), first.problem.layout.size, device=first.problem.initial.device) for d in drawn]
    losses: list[list[list[float]]] = [[[] for _ in d] for d in drawn]
    at_once = all(c.patience is None for c in config)
    stages = [config[0].epochs] if at_once else [1] * config[0].epochs
    best = {(i, row): (math.inf, 0) for i, row, _ in jobs}
    for number, epochs in enumerate(stages):
        running = [
            (
                i,
                row,
                replace(
                    job, start=job.start + deviations[i][row], address=(*job.address, number) if number else job.address
                ),
            )
            for i, row, job in jobs
            if config[i].patience is None or best[i, row][1] < (config[i].patience or 0)
        ]
        if not running:
            break
        schedule = config[0].schedule(first.protocol.training, epochs)
        trained = trainer.train(
            first.problem.module, first.problem.layout, first.problem.x_train, [j for *_, j in running], schedule
        )
        for (i, row, _), update, loss in zip(running, trained.updates, trained.losses.tolist(), strict=True):
            deviations[i][row] += update
            losses[i][row] += loss
            lowest, stale = best[i, row]
            best[i, row] = (loss[-1], 0) if loss[-1] < lowest else (lowest, stale + 1)
    return [
        _landscape(cell, clients, rows, loss)
        for cell, clients, rows, loss in zip(cells, drawn, deviations, losses, strict=True)
    ]


def _landscape(
    cell: Cell, clients: Tensor, deviations: Tensor, losses: list[list[float]]
) -> tuple[Exploration, list[str]]:
    """Attack the explorers' deviations as bad clients do, leave out what is not finite, and combine the rest."""
    sent = attack_updates(cell, deviations, clients, torch.ones_like(cell.problem.initial, dtype=torch.bool), 0)
    sent = sent * cell.problem.layout.trainable.to(sent.device)
    usable = finite_rows(sent)
    if not bool(usable.any()):
        raise InputError("exploration: no explorer ended with finite weights; lower exploration.lr or training.lr")
    here = clients.to(sent.device)[usable]
    samples = torch.tensor([float(len(cell.problem.clients[k])) for k in here.tolist()], device=sent.device)
    kept_losses = [loss for loss, ok in zip(losses, usable.tolist(), strict=True) if ok]
    events = [
        f"exploration: client {k} sent deviations that are not finite: left out"
        for k in clients[(~usable).cpu()].tolist()
    ]
    return explore(here, samples, sent[usable], cell.protocol.exploration.method, kept_losses), events


def run_cells(
    cells: Sequence[Cell], trainer: Trainer, progress: Callable[[int, int], None] | None = None
) -> list[RunRecord]:
    """Run a block of cells that share data, model and schedules; their seeds, partitions and algorithms may differ.

    Args:
        cells: at least one. Same ``x_train``, layout, training and exploration schedules in all of them.
        trainer: does the local training of all cells in one stacked program, or one client at a time.
        progress: called after every round with (rounds done, rounds in all).
    """
    began = time.perf_counter()
    first = cells[0].problem
    costs = CostModel(
        first.module,
        first.layout,
        first.chain,
        first.chain_reason,
        first.x_train[:1],
        cells[0].protocol.training.batch_size,
    )
    books = [Logbook(cell, costs) for cell in cells]
    exploring = [i for i, cell in enumerate(cells) if cell.protocol.explores]
    landscapes: dict[int, Exploration] = {}
    if exploring:
        for i, (landscape, events) in zip(exploring, _explore([cells[i] for i in exploring], trainer), strict=True):
            landscapes[i] = landscape
            books[i].events += events
    states = [begin(cell, landscapes.get(i)) for i, cell in enumerate(cells)]
    for book, state in zip(books, states, strict=True):
        book.open(state.exploration, state.guidance)
    rounds = max(cell.protocol.rounds for cell in cells)
    for done in range(1, rounds + 1):
        running = [i for i, cell in enumerate(cells) if cell.protocol.rounds >= done]
        plans = {i: plan_round(cells[i], states[i]) for i in running}
        jobs = [job for i in running for job in plans[i][1]]
        trained = trainer.train(first.module, first.layout, first.x_train, jobs, cells[0].protocol.training)
        row = 0
        outcomes = {}
        for i in running:
            clients, own = plans[i]
            rows = slice(row, row + len(own))
            states[i], outcome = finish_round(cells[i], states[i], clients, trained.updates[rows])
            loss = float(trained.losses[rows, -1].mean())
            outcomes[i] = replace(outcome, train_loss=loss if math.isfinite(loss) else None)
            row += len(own)
        due = [i for i in running if done % cells[i].protocol.evaluate_every == 0 or done == cells[i].protocol.rounds]
        if due:
            vectors = torch.stack([states[i].weights for i in due])
            accuracy, loss = evaluate(first.module, first.layout, vectors, first.x_test, first.y_test)
            tests = dict(zip(due, zip(accuracy.tolist(), loss.tolist(), strict=True), strict=True))
        for i in running:
            books[i].add(outcomes[i], tests.get(i) if due else None)
        if progress is not None:
            progress(done, rounds)
    seconds = time.perf_counter() - began
    return [
        book.close(state.mask, state.guidance, trainer, seconds / len(cells))
        for book, state in zip(books, states, strict=True)
    ]
