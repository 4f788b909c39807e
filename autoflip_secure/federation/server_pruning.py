"""The pruner's turn on the server: its memory, its mask, and the weights under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import PruneView, Received
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
    mask, frozen = protocol.pruner.mask(view), problem.layout.frozen.to(state.mask.device)
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
