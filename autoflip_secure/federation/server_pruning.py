"""The pruner's turn on the server: its memory, its mask, and the weights under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.outside_answers import mask_of
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import Exploration, PruneView, Received
from autoflip_secure.models.uses import uses_of_weights
from autoflip_secure.seeds import Purpose, generator


def pruned(
    cell: Cell, state: ServerState, channels: Mapping[str, Received] | None = None, *, again: bool = False
) -> ServerState:
    """Ask the pruner what it remembers and for its mask, and rescale when that changed; ``channels``: of this round,
    ``again``: the mask is drawn anew."""
    protocol, problem = cell.protocol, cell.problem
    view = PruneView(
        layout=problem.layout,
        units=problem.units,
        weights=state.whole,
        mask=torch.ones_like(state.mask) if again else state.mask,
        exploration=state.exploration,
        guidance=state.guidance,
        round=state.round,
        rounds=protocol.rounds,
        generator=partial(generator, cell.seed, Purpose.PRUNING),
        normalisation=protocol.guidance.normalisation,
        channels=channels or {},
        memory=state.memory,
        multiply_adds=partial(uses_of_weights, problem.module, problem.layout, problem.x_train[:1]),
        again=again,
    )
    memory = protocol.pruner.remember(view)
    if memory is not state.memory:
        view, state = replace(view, memory=memory), replace(state, memory=memory)
    mask, frozen = mask_of(protocol.pruner, view), problem.layout.frozen.to(state.mask.device)
    if mask is not state.mask:
        mask = mask | frozen
    if mask is state.mask or torch.equal(mask, state.mask):
        return state
    if protocol.pruner.keeps_masked:
        state = replace(state, masked_weights=state.whole)
        weights = torch.where(mask, state.whole, 0.0)
    else:
        weights = protocol.pruner.rescale(state.weights, state.mask, mask, view)
    momentum = None if state.momentum is None else torch.where(mask, state.momentum, 0.0)
    return replace(state, mask=mask, weights=torch.where(frozen, state.weights, weights), momentum=momentum)


def drawn_for_round(cell: Cell, state: ServerState) -> ServerState:
    """Before a round: with guidance of rounds, D of the last one's cohort, and a mask that is drawn anew from it.

    Where nobody of that cohort has explored all stays as it is, and before round 1 too: that has the map of all.
    """
    if not cell.protocol.guided_by_round or state.round == 0:
        return state
    assert state.exploration is not None
    assert state.guidance is not None
    theirs = explored_by(cell, state.exploration, cell.cohort(state.round))
    if theirs is None:
        return state
    guidance = replace(state.guidance, energy=theirs.energy)
    drawn = pruned(cell, replace(state, exploration=theirs, guidance=guidance), again=True)
    return replace(drawn, exploration=state.exploration)


def explored_by(cell: Cell, found: Exploration, clients: Int[Tensor, " some"]) -> Exploration | None:
    """The landscape of those explorers alone who are among ``clients``, by ``exploration.method``; None: nobody is."""
    among = torch.isin(found.clients, clients.to(found.clients.device))
    if not bool(among.any()):
        return None
    layout, config = cell.problem.layout, cell.protocol.exploration
    rows = found.deviations[among.to(found.energy.device)]
    own = explore(found.clients[among], found.samples[among], layout.of_sent(rows), config.method, [], config.reveal)
    return replace(own, energy=layout.spread(own.energy, layout.sent), deviations=rows)
