"""The server's clean root set: for an aggregator that asks for it the server trains on it in every round, as a client.

It is one more job beside those of the cohort, from the same weights, with the same mask, schedule and local rule, in
the same program. Its mini-batches are drawn at (BATCHES, round, :data:`ROOT`). Nothing is sent: no attack, privacy
mechanism or party is on its way to the aggregator. Where clients train with DP-SGD it is trained by plain steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import UNUSABLE, usable_rows
from autoflip_secure.federation.ruling import ruled
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.models.masks import facts

ROOT: Final = 2**32 - 1
"""Where the number of a client stands in an address; nobody has this one."""


def root_jobs(cells: Sequence[Cell], states: Sequence[ServerState]) -> list[ClientJob]:
    """The next round's training on root sets, of the cells that have one, in order."""
    return [_job(cell, state) for cell, state in zip(cells, states, strict=True) if cell.problem.root is not None]


def _job(cell: Cell, state: ServerState) -> ClientJob:
    problem, round_ = cell.problem, state.round + 1
    assert problem.root is not None
    job = ClientJob(
        start=state.weights,
        samples=problem.root,
        labels=problem.y_train[problem.root],
        seed=cell.seed,
        address=(round_, ROOT),
        mask=state.mask if facts(state.mask, problem.layout).masked else None,
    )
    return ruled(cell, [job], round_, state.broadcast)[0]


def with_roots(
    cells: Sequence[Cell], states: Sequence[ServerState], updates: Tensor
) -> tuple[list[ServerState], list[tuple[str, ...]]]:
    """The states with what was trained on root sets, and what is to be said of it; ``updates``: of :func:`root_jobs`.

    An update that cannot be computed with is zero, which is like nobody's.
    """
    found, said, rows = list[ServerState](), list[tuple[str, ...]](), iter(updates)
    for cell, state in zip(cells, states, strict=True):
        if cell.problem.root is None:
            found.append(state)
            said.append(())
            continue
        row = torch.where(state.travelling(cell.problem.layout), next(rows), 0.0)
        usable = bool(usable_rows(row[None]))
        found.append(replace(state, root=row if usable else torch.zeros_like(row)))
        event = f"round {state.round + 1}: the update of the server's root set is {UNUSABLE}: it agrees with nobody"
        said.append(() if usable else (event,))
    return found, said
