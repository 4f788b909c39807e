"""Masks of the clients' own that they decide about after local training: kept in their states, sent with updates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.client_states import MASK, ClientStates
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.own_masks import training_accuracies
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import ClientEndView, Trained
from autoflip_secure.seeds import Purpose, generator


def decide_after(
    cells: Sequence[Cell],
    states: Sequence[ServerState],
    own: Sequence[Masking | None],
    trained: Trained,
    kept: Sequence[ClientStates | None],
    inputs: PoisonedInputs,
) -> list[Masking | None]:
    """What the participants hold after they have decided about it; accuracies in one program.

    ``own``: what they trained under; the rows of ``trained`` are the cohorts of all cells, one after the other.
    """
    asking = [
        masking is not None and cell.protocol.pruner.decides_after for cell, masking in zip(cells, own, strict=True)
    ]
    if not any(asking):
        return list(own)
    cohorts = [cell.cohort(state.round + 1).tolist() for cell, state in zip(cells, states, strict=True)]
    places, row = dict[tuple[int, int], int](), 0
    for number, clients in enumerate(cohorts):
        for client in clients:
            places[number, client], row = row, row + 1
    wanted = [
        (number, client)
        for number, clients in enumerate(cohorts)
        if asking[number] and cells[number].protocol.pruner.needs_end_accuracy
        for client in clients
    ]

    def end(number: int, client: int) -> Tensor:
        masking, place = own[number], cohorts[number].index(client)
        assert masking is not None
        return masking.starts[place] + trained.updates[places[number, client]]

    def models(chosen: Sequence[int]) -> Tensor:
        return torch.stack([end(*wanted[place]) for place in chosen])

    accuracies = training_accuracies(cells, states, inputs, wanted, models) if wanted else {}
    found: list[Masking | None] = []
    for number, (cell, state, masking, memory) in enumerate(zip(cells, states, own, kept, strict=True)):
        if masking is None or memory is None or not asking[number] or not cohorts[number]:
            found.append(masking)
            continue
        masks = []
        for place, client in enumerate(cohorts[number]):
            snapshots = trained.snapshots
            noted = cell.protocol.pruner.snapshot(cell.protocol.training.epochs) is not None
            view = ClientEndView(
                layout=cell.problem.layout,
                units=cell.problem.units,
                client=client,
                mask=masking.masks[place],
                start=masking.starts[place],
                snapshot=snapshots[places[number, client]] if noted and snapshots is not None else None,
                end=end(number, client),
                accuracy=accuracies.get((number, client)),
                round=state.round + 1,
                rounds=cell.protocol.rounds,
                generator=partial(generator, cell.seed, Purpose.CLIENT_MASK, state.round + 1, client, 0),
            )
            masks.append(cell.protocol.pruner.client_mask_after(view))
        ends = (torch.stack(masks) | cell.problem.layout.frozen.to(masking.masks.device)) & state.mask
        memory.write(MASK, cohorts[number], ends)
        found.append(masking if torch.equal(ends, masking.masks) else masking.moved(ends))
    return found
