"""Phase 1: the explorers of several cells train as one program, and a landscape is made of what they send.

With ``exploration.every`` they explore again after so many rounds, dense and from the model as it is: live weights move
on, and pruned ones start at zero and may come back. A unit that died stays dead, because no gradient reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.federation.attacking import AttackMemory, Defence, attack_updates
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import UNUSABLE, client_jobs, privacy_view, stated_samples, usable_rows
from autoflip_secure.federation.explored_before import ExploredBefore
from autoflip_secure.federation.explorers import Explorer, Remembered, identity_of
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.federation.secure_rounds import secret_landscape, timed
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import Exploration
from autoflip_secure.interfaces.phases import exploration_after
from autoflip_secure.models.exploration_messages import shortened
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import kept
from autoflip_secure.secure_rows.secure_sum import SecureSum, SecureTransfer
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer

Explored = tuple[Exploration, list[str], SecureTransfer | None, AttackMemory | None]


Nothing = tuple[None, list[str], None, None]


Sums = Callable[[Cell], SecureSum | None]


@dataclass(frozen=True)
class Phase:
    """One exploration of a cell: its number, what explorers start from, and what the attacks remember."""

    number: int
    start: Tensor
    memory: AttackMemory | None = None


def _explore(
    cells: Sequence[Cell],
    trainer: Trainer,
    watch: Watcher,
    sums: Sums,
    inputs: PoisonedInputs,
    phases: Sequence[Phase] | None = None,
    before: ExploredBefore | None = None,
) -> Iterator[Explored]:
    """An exploration of several cells; landscapes come one at a time, so that only one cell's copies are in memory.

    ``phases``: None for that before round 1; their numbers are the same in all cells.
    """
    if not cells:
        return
    phases = [Phase(0, cell.problem.initial) for cell in cells] if phases is None else phases
    trained = trained_explorers(cells, phases, [cell.explorers for cell in cells], trainer, inputs, before)
    for cell, phase, (clients, explorers) in zip(cells, phases, trained, strict=True):
        deviations = torch.stack([explorer.deviation for explorer in explorers])
        losses = [explorer.losses for explorer in explorers]
        yield landscape(cell, phase, clients, deviations, losses, watch, sums(cell))


def trained_explorers(
    cells: Sequence[Cell],
    phases: Sequence[Phase],
    who: Sequence[Tensor],
    trainer: Trainer,
    inputs: PoisonedInputs,
    before: ExploredBefore | None = None,
) -> list[tuple[Tensor, list[Explorer]]]:
    """The clients' side: ``who`` explores of each cell, all in one stacked program, epoch by epoch where someone may
    stop early. Honest: nobody has changed a deviation. ``before``: who explored in earlier blocks does not again."""
    first, number = cells[0], phases[0].number
    config = first.protocol.exploration  # epochs, lr and patience are the same in all cells of a block
    explorers_of_cells: list[tuple[Tensor, list[Explorer]]] = []
    known: dict[tuple[object, ...], Explorer] = {}
    plans = []
    for cell, phase, clients in zip(cells, phases, who, strict=True):
        start = phase.start
        plans.append((clients, client_jobs(cell, start, torch.ones_like(start, dtype=torch.bool), clients, number)))
    x, plans = inputs.of_round(cells, number, plans)
    for phase, (clients, jobs) in zip(phases, plans, strict=True):
        start = phase.start
        fresh = {identity_of(job): Explorer(job, config.patience, torch.zeros_like(start)) for job in jobs}
        known = {**fresh, **known}
        explorers_of_cells.append((clients, [known[identity] for identity in fresh]))
    remembered = Remembered(before, first, trainer, x)
    remembered.take(known)
    stages = [config.epochs] if config.patience is None else [1] * config.epochs
    for stage, epochs in enumerate(stages):
        running = [explorer for explorer in known.values() if explorer.running]
        if not running:
            break
        schedule = config.schedule(first.protocol.training, epochs)
        jobs = [explorer.next_job(stage) for explorer in running]
        trained = trainer.train(first.problem.module, first.problem.layout, x, jobs, schedule)
        for explorer, update, losses in zip(running, trained.updates, trained.losses.tolist(), strict=True):
            explorer.moved(update, losses)
    remembered.keep(known)
    return explorers_of_cells


def landscape(
    cell: Cell,
    phase: Phase,
    clients: Tensor,
    deviations: Tensor,
    losses: list[list[float]],
    watch: Watcher,
    sums: SecureSum | None,
) -> Explored:
    """Attack the explorers' deviations as malicious clients do, leave out what is not finite, and combine the rest.

    Frozen coordinates are taken out before and put back, with energy 0, after: shares of the coordinates mean others.

    Args:
        cell: the cell.
        phase: which exploration it is.
        clients: who explored.
        deviations: of each of them (explorers, params), as trained.
        losses: of each of them, per epoch.
        watch: is shown what the server receives.
        sums: what secret deviations pass through.
    """
    layout = cell.problem.layout
    everywhere, trained = torch.ones_like(phase.start, dtype=torch.bool), layout.trained.to(deviations.device)
    config = cell.protocol.exploration
    epochs = {client: len(history) for client, history in zip(clients.tolist(), losses, strict=True)}

    def without(found: Exploration, rejected: list[int]) -> Exploration:
        """The landscape of the others."""
        return replace(found, rejected=tuple(rejected), rejected_epochs=tuple(epochs[k] for k in rejected))

    def combined(sent: Tensor) -> Exploration:
        """What the server makes of deviations that it sees."""
        usable = usable_rows(sent)
        here = clients.to(sent.device)[usable]
        own = [one for one, ok in zip(losses, usable.tolist(), strict=True) if ok]
        samples, rows = stated_samples(cell, here, phase.number), layout.of_sent(sent[usable])
        found = _everywhere(explore(here, samples, rows, config.method, own, config.reveal), layout)
        return without(found, clients[(~usable).cpu()].tolist())

    def travelled(rows: Tensor) -> Tensor:
        """What the server has of rows that explorers send."""
        return shortened(rows, layout, config.upload_bits, config.upload_share)

    knows = None
    if sums is None and cell.protocol.client_level is None:
        knows = Defence(cell.protocol.aggregator, landscape=lambda rows: combined(travelled(kept(rows, trained))))
    attacked = attack_updates(cell, deviations, clients, everywhere, phase.number, phase.start, phase.memory, knows)
    sent = kept(attacked.rows, trained)
    if cell.protocol.client_level is not None:
        seen = privacy_view(cell, clients, trained, phase.number, weights=phase.start)
        sent = cell.protocol.client_level.explore(sent, seen)
    sent = travelled(sent)
    usable = usable_rows(sent)
    here = clients.to(sent.device)[usable]
    left_out = clients[(~usable).cpu()].tolist()
    events = [f"exploration: client {k} sent deviations that are {UNUSABLE}: left out" for k in left_out]
    if len(here) == 0:
        events = [
            "exploration: no explorer sent finite deviations: flat landscape (lower exploration.lr or training.lr)"
        ]
    events = [*(f"exploration: {event}" for event in attacked.events), *events]
    if sums is None:
        if phase.number == 0:
            watch.exploration(cell, here, sent[usable])
        return combined(sent), events, None, attacked.memory
    draws, owners = generator(cell.seed, Purpose.SECURE_CHECKS, phase.number), tuple(here.tolist())
    own = [one for one, ok in zip(losses, usable.tolist(), strict=True) if ok]
    with timed(sums) as through:
        found, revealed, more, watched = secret_landscape(
            owners,
            layout.of_sent(sent[usable]),
            stated_samples(cell, here, phase.number),
            own,
            config.reveal,
            draws,
            sums,
        )
    dropped = [k for k in owners if k not in found.clients.tolist()]
    found = without(_everywhere(found, layout), sorted([*left_out, *dropped]))
    return found, events + more, through(len(found.clients), revealed, watched), attacked.memory


def _everywhere(found: Exploration, layout: Layout) -> Exploration:
    """A landscape of the sent coordinates as one of all."""
    energy, deviations = (layout.spread(x, layout.sent) for x in (found.energy, found.deviations))
    return replace(found, energy=energy, deviations=deviations)


def landscapes(
    cells: Sequence[Cell],
    trainer: Trainer,
    watch: Watcher,
    sums: Sums,
    inputs: PoisonedInputs,
    before: ExploredBefore | None = None,
) -> Iterator[Explored | Nothing]:
    """Phase 1, cell by cell, before round 1; nothing where nobody explores.

    ``inputs``: what the clients train on. ``before``: earlier explorers, where a model's bits depend on its job alone.
    """
    found = _explore([cell for cell in cells if cell.protocol.explores], trainer, watch, sums, inputs, before=before)
    for cell in cells:
        yield next(found) if cell.protocol.explores else (None, [], None, None)


def explored_again(
    cells: Sequence[Cell],
    states: Sequence[ServerState],
    trainer: Trainer,
    watch: Watcher,
    sums: Sums,
    inputs: PoisonedInputs,
) -> list[Explored | None]:
    """What explorers find who explore again after the rounds that ``states`` have behind them; None: they do not."""
    due = [_again(cell, state.round) for cell, state in zip(cells, states, strict=True)]
    phases = [
        Phase(exploration_after(state.round), state.weights, state.attack)
        for state, is_due in zip(states, due, strict=True)
        if is_due
    ]
    found = _explore(
        [cell for cell, is_due in zip(cells, due, strict=True) if is_due], trainer, watch, sums, inputs, phases
    )
    return [next(found) if is_due else None for is_due in due]


def _again(cell: Cell, round_: int) -> bool:
    protocol = cell.protocol
    return protocol.explores and protocol.exploration.again(round_, protocol.rounds)
