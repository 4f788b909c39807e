"""The server's step: what the model moves by once rows are aggregated, and where to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.algorithm.server_step import server_step
from autoflip_secure.federation.arriving import Arrived, Cohort
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import Usable
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.scored_rounds import of_enough_holders
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import Aggregate
from autoflip_secure.models.masks import facts, kept


@dataclass(frozen=True)
class Step:
    """What one cell's model moves by in a round if the weights that it leads to can be computed with."""

    published: Float[Tensor, " params"]  # before the server's learning rate and momentum
    moved: Float[Tensor, " params"]
    momentum: Float[Tensor, " params"] | None
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]
    privacy: Any  # the state of the client-level mechanism after it
    held: Bool[Tensor, "usable params"] | None  # masks of the clients' own; None: all hold the same


def step_of(
    cell: Cell, state: ServerState, cohort: Cohort, came: Arrived, decision: Aggregate | None, usable: Usable
) -> Step:
    """The step of one cell; ``decision``: None where nobody sent what can be used."""
    private, privacy, own = cell.protocol.client_level, state.privacy, cohort.own
    held = None if own is None else own.masks[usable.flags]
    if decision is None:
        step = torch.zeros_like(state.weights)
    else:
        step = of_enough_holders(cell, cell.problem.layout.still(decision.delta), held)
    if private is not None and came.view is not None:
        if cell.protocol.aggregator.one_sum:  # the mean over who came becomes the sum over how many were expected
            step = step * (sum(usable.plain) / came.view.expected)
        shown = came.raw[:0] if cell.visibility.secret else usable.chosen(came.raw)
        step, privacy = private.publish(state.privacy, step, shown, came.view)
    moved, momentum = _server_step(cell, state, step, decision)
    weights, mask = _moved(cell, state, own, usable, moved)
    return Step(step, moved, momentum, weights, mask, privacy, held)


def _moved(cell: Cell, state: ServerState, own: Masking | None, usable: Usable, by: Tensor) -> tuple[Tensor, Tensor]:
    """Weights after the step, and where they are: on the shared mask, and on what clients grew where they move it."""
    held = state.mask
    if own is not None and cell.protocol.pruner.collects:
        held = held | usable.chosen(own.masks).any(0)
    return kept(state.weights + by, held), held


def _server_step(
    cell: Cell, state: ServerState, step: Tensor, decision: Aggregate | None
) -> tuple[Tensor, Tensor | None]:
    """What the model moves by, and the momentum; where nobody is trusted there is no step, and both stay.

    A trusted server's step is noised, and what follows depends on nothing but what it publishes.
    """
    protocol, private = cell.protocol, cell.protocol.client_level
    if protocol.server_lr == 1 and state.momentum is None:
        return step, None
    trained = facts(state.mask, cell.problem.layout).live
    moved, momentum = server_step(step, state.momentum, trained, lr=protocol.server_lr, beta=protocol.server_momentum)
    if momentum is None or decision is None or (private is not None and private.trusted_server):
        return moved, momentum
    assert state.momentum is not None
    trusted = decision.trust.any() | decision.delta.any()  # of absent clients' rows, too
    return moved.where(trusted, 0.0), momentum.where(trusted, state.momentum)
