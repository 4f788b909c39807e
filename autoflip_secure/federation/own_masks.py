"""Masks of the clients' own: decided on their side before they train, kept in their states, sent with their updates.

A cell whose pruner has ``own`` has :class:`.ClientStates`; in every round each participant is asked for its mask, which
counts from then on whatever becomes of its update. The global mask is the part that all share. A local rule may move
the mask while the client trains: then the one at the end is its own; or, of a pruner that collects masks, it is the
one that its update is sent under, and the server makes the next mask of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.client_states import MASK, MEMORY_BOUND, ClientStates, StateKind, held_by
from autoflip_secure.federation.clients import client_labels
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import ClientPruneView, Trained, trained_mask
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training.own_evaluation import Models, evaluate_own


def memories(cells: Sequence[Cell], bound: int = MEMORY_BOUND) -> list[ClientStates | None]:
    """What the clients of each cell remember; None: nothing. All cells of a block share ``bound`` bytes of memory."""
    named = [_rows(cell) for cell in cells]
    share = bound // max(1, sum(map(bool, named)))
    return [_memory(cell, rows, share) if rows else None for cell, rows in zip(cells, named, strict=True)]


def _rows(cell: Cell) -> dict[str, StateKind]:
    """What a client of the cell keeps: its own mask, and what pruner and aggregator name.

    Raises:
        InputError: a name is given twice.
    """
    rows: dict[str, StateKind] = {MASK: "bits"} if cell.protocol.pruner.own else {}
    for source in cell.channel_sources:
        for name, kind in source.rows_kept.items():
            if name in rows:
                raise InputError(
                    f"{type(source).__name__} has clients remember {name!r}, a name that is taken; give another"
                )
            rows[name] = kind
    return rows


def _memory(cell: Cell, rows: Mapping[str, StateKind], bound: int) -> ClientStates:
    problem = cell.problem
    return ClientStates(len(problem.clients), problem.layout.size, rows, bound, problem.initial.device)


def decide(
    cells: Sequence[Cell], states: Sequence[ServerState], kept: Sequence[ClientStates | None], inputs: PoisonedInputs
) -> list[Masking | None]:
    """Ask each participant of the coming round for its mask, and keep the answers; accuracies in one program."""
    asked = [
        (number, client)
        for number, (cell, state, own) in enumerate(zip(cells, states, kept, strict=True))
        if own is not None and own.own_masks
        for client in cell.cohort(state.round + 1).tolist()
    ]
    if not asked and not any(cell.protocol.pruner.collects for cell in cells):
        return [None] * len(cells)
    wanted = [place for place in asked if cells[place[0]].protocol.pruner.needs_accuracy]

    def models(places: Sequence[int]) -> Tensor:
        rows = []
        for number, client in (wanted[place] for place in places):
            own = kept[number]
            assert own is not None
            rows.append(torch.where(held_by(own, states[number].mask, [client])[0], states[number].weights, 0.0))
        return torch.stack(rows)

    accuracies = training_accuracies(cells, states, inputs, wanted, models)
    found: list[Masking | None] = []
    for number, (cell, state, own) in enumerate(zip(cells, states, kept, strict=True)):
        measured = {client: accuracies.get((n, client)) for n, client in asked if n == number}
        if cell.protocol.pruner.collects:
            found.append(_shared(state, len(cell.cohort(state.round + 1))))
        else:
            found.append(None if own is None or not own.own_masks else _masking(cell, state, own, measured))
    return found


def _shared(state: ServerState, cohort: int) -> Masking:
    """The mask that all share, which each of the cohort may move for one round."""
    masks = state.mask.expand(cohort, -1)
    return Masking(masks, masks, state.weights.expand(cohort, -1))


def training_accuracies(
    cells: Sequence[Cell], states: Sequence[ServerState], inputs: PoisonedInputs, wanted: Sequence[tuple[int, int]],
    models: Models,
) -> dict[tuple[int, int], float]:  # fmt: skip
    """Of ``models``, one for each (cell, client) of ``wanted``, on the client's training rows with its labels."""
    problem = cells[0].problem
    x, samples = inputs.of(
        [cells[number] for number, _ in wanted], [states[number].round + 1 for number, _ in wanted],
        [client for _, client in wanted],
        [cells[number].problem.clients[client] for number, client in wanted],
    )  # fmt: skip
    labels = [
        client_labels(cells[number], client, states[number].round + 1, states[number].weights)
        for number, client in wanted
    ]
    accuracy, _ = evaluate_own(problem.module, problem.layout, models, x, samples, labels)
    return dict(zip(wanted, accuracy.tolist(), strict=True))


def client_view(
    cell: Cell, state: ServerState, kept: ClientStates, client: int, mask: Tensor, accuracy: float | None
) -> ClientPruneView:
    """What a client decides on before the round after ``state``."""
    problem, round_ = cell.problem, state.round + 1
    return ClientPruneView(
        layout=problem.layout,
        units=problem.units,
        client=client,
        weights=state.weights,
        initial=problem.initial,
        mask=mask,
        accuracy=accuracy,
        states={name: kept.read(name, [client])[0] for name in cell.protocol.pruner.rows_kept},
        round=round_,
        rounds=cell.protocol.rounds,
        generator=partial(generator, cell.seed, Purpose.CLIENT_MASK, round_, client),
        known=None if state.scored is None else state.scored.known,
    )


def _masking(cell: Cell, state: ServerState, kept: ClientStates, measured: dict[int, float | None]) -> Masking:
    """The decisions of one cell's cohort: client -> accuracy, or None where its pruner does without."""
    problem, pruner = cell.problem, cell.protocol.pruner
    clients = list(measured)
    before = held_by(kept, state.mask, clients)
    frozen = problem.layout.frozen.to(before.device)
    masks, starts = [], []
    for client, mask in zip(clients, before, strict=True):
        view = client_view(cell, state, kept, client, mask, measured[client])
        decision = pruner.client_mask(view)
        own = (decision.mask | frozen) & state.mask
        masks.append(own)
        starts.append(torch.where(own, torch.where(frozen, state.weights, decision.start), 0.0))
        kept.write(MASK, [client], own[None])
        for name, row in decision.states.items():
            kept.write(name, [client], row[None])
    if not clients:  # a Poisson cohort may be empty
        return Masking(before, before, torch.zeros_like(before, dtype=state.weights.dtype))
    return Masking(before, torch.stack(masks), torch.stack(starts))


def keep_moved(
    cells: Sequence[Cell],
    states: Sequence[ServerState],
    own: Sequence[Masking | None],
    trained: Trained,
    kept: Sequence[ClientStates | None],
) -> list[Masking | None]:
    """What the participants hold after local training, where their local rule moved it; kept for their next round.

    ``own``: what they began with; the rows of ``trained`` are the cohorts of all cells, one after the other.
    """
    if trained.masks is None:
        return list(own)
    found, row = list[Masking | None](), 0
    for cell, state, masking, memory in zip(cells, states, own, kept, strict=True):
        clients = cell.cohort(state.round + 1).tolist()
        ends = trained.masks[row : (row := row + len(clients))]
        rule = cell.protocol.rule
        moves = rule is not None and rule.moves_masks and rule.moves_in(state.round + 1, cell.protocol.rounds)
        if masking is None or not moves:
            found.append(masking)
            continue
        ends = ends | cell.problem.layout.frozen.to(ends.device)
        moved = masking.moved(ends if cell.protocol.pruner.collects else ends & state.mask)
        if memory is not None:
            memory.write(MASK, clients, moved.masks)
        found.append(moved)
    return found


def keep_trained(
    cells: Sequence[Cell], states: Sequence[ServerState], own: Sequence[Masking | None], trained: Trained,
    kept: Sequence[ClientStates | None],
) -> None:  # fmt: skip
    """Keep what the participants trained, where their pruner has a row for it; of who diverged, what was there."""
    if not any(memory is not None for memory in kept):
        return
    row = 0
    for cell, state, masking, memory in zip(cells, states, own, kept, strict=True):
        clients = cell.cohort(state.round + 1).tolist()
        updates = trained.updates[row : (row := row + len(clients))]
        pruner = trained_mask(cell.protocol.pruner)
        if pruner is None or not pruner.kept or masking is None or memory is None:
            continue
        for client, end in zip(clients, masking.starts + updates, strict=True):
            if bool(end.isfinite().all()):
                memory.write(pruner.kept, [client], end[None])
