"""Models of the clients' own where they train masks: what each would begin its next round from, and its last tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.client_states import ClientStates, held_by
from autoflip_secure.federation.clients import client_labels
from autoflip_secure.federation.own_masks import client_view
from autoflip_secure.federation.scored_rounds import places
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import ClientJob, trained_mask, trained_thresholds
from autoflip_secure.models.amounts import Flops
from autoflip_secure.models.costs import CostModel
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer

Tuned = Mapping[tuple[int, int], Float[Tensor, " params"]]
"""(number of the cell, client) -> weights after tuning."""


def own_model(
    cell: Cell, state: ServerState, kept: ClientStates, client: int
) -> tuple[Float[Tensor, " params"], Bool[Tensor, " params"]]:
    """Weights and mask of a client's own model after a round: what it holds of the global one where no masks are
    trained, else what its scores make of the frozen weights. A draw is at (MASK_DRAWS, round, client, 1)."""
    mask = held_by(kept, state.mask, [client])[0]
    pruner = trained_mask(cell.protocol.pruner)
    if pruner is None or state.scored is None:
        return torch.where(mask, state.weights, 0.0), mask
    where = places(pruner, cell.problem.layout, mask.device)
    start = pruner.client_mask(client_view(cell, state, kept, client, mask, None)).start
    if (units := trained_thresholds(pruner)) is not None:
        weights, alive = units.models(cell.problem.layout, start[None])
        return weights[0], alive[0]
    draws = generator(cell.seed, Purpose.MASK_DRAWS, state.round, client, 1)
    live = mask & (~where.scored | pruner.bits(start, torch.rand(len(start), generator=draws).to(start)))
    own = torch.where(where.personal, start, torch.where(where.shared, state.weights, state.scored.theta))
    return torch.where(live, own, 0.0), live


def final_masks(cell: Cell, state: ServerState, kept: ClientStates) -> Iterator[Bool[Tensor, " params"]]:
    """What counts as live of each client's model at the end, one after the other."""
    return (own_model(cell, state, kept, client)[1] for client in range(len(cell.problem.clients)))


def tuned_models(
    cells: Sequence[Cell], states: Sequence[ServerState], kept: Sequence[ClientStates | None], trainer: Trainer
) -> Tuned:
    """After the last round: every honest client trains the live weights of its own model, where its pruner says so.

    Mini-batches are drawn at (BATCHES, rounds + 1, client).
    """
    found = dict[tuple[int, int], Tensor]()
    for number, (cell, state, memory) in enumerate(zip(cells, states, kept, strict=True)):
        epochs, lr = _tuning(cell)
        if not epochs or memory is None:
            continue
        problem, protocol = cell.problem, cell.protocol
        clients = (~cell.malicious_clients).nonzero().squeeze(1).tolist()
        jobs = []
        for client in clients:
            weights, mask = own_model(cell, state, memory, client)
            labels = client_labels(cell, client, state.round, state.model)
            address = (protocol.rounds + 1, client)
            jobs.append(ClientJob(weights, problem.clients[client], labels, cell.seed, address, mask))
        schedule = protocol.training.model_copy(update={"epochs": epochs, "lr": lr})
        trained = trainer.train(problem.module, problem.layout, problem.x_train, jobs, schedule)
        for client, job, update in zip(clients, jobs, trained.updates, strict=True):
            found[number, client] = job.start + update
    return found


def tuning_flops(cell: Cell, state: ServerState, kept: ClientStates | None, costs: CostModel) -> Sequence[Flops]:
    """Operations of :func:`tuned_models`, client by client; malicious clients are not asked."""
    epochs, _ = _tuning(cell)
    if not epochs or kept is None:
        return ()
    honest = (~cell.malicious_clients).nonzero().squeeze(1).tolist()
    return [costs.training(own_model(cell, state, kept, k)[1], epochs * len(cell.problem.clients[k])) for k in honest]


def _tuning(cell: Cell) -> tuple[int, float]:
    pruner = trained_mask(cell.protocol.pruner)
    return (0, 0.0) if pruner is None or not pruner.own else pruner.tuning
