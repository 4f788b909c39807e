"""The local rule of a cell: what the server sends for it before round 1, and jobs that train by it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import BroadcastView, ClientJob, Exploration, RoundRule
from autoflip_secure.seeds import Purpose, generator


def broadcast(cell: Cell, exploration: Exploration | None) -> Float[Tensor, " params"] | None:
    """What each client is sent once for its local rule; None: nothing. Draws at (LOCAL_RULE, ...)."""
    rule = cell.protocol.rule
    if rule is None:
        return None
    seen = exploration if rule.needs_exploration else None
    return rule.broadcast(BroadcastView(cell.problem.layout, seen, partial(generator, cell.seed, Purpose.LOCAL_RULE)))


def ruled(cell: Cell, jobs: list[ClientJob], round_: int, sent: Float[Tensor, " params"] | None) -> list[ClientJob]:
    """``jobs`` under the cell's local rule; malicious clients train by it too."""
    rule = cell.protocol.rule
    if rule is None:
        return jobs
    own = RoundRule(rule, round_, cell.protocol.rounds, sent)
    return [replace(job, rule=own) for job in jobs]


def rehearsed(cell: Cell) -> RoundRule | None:
    """The rule of round 1 with made-up numbers for what the server sends, to try it on."""
    rule, initial = cell.protocol.rule, cell.problem.initial
    if rule is None:
        return None
    made = torch.rand(len(initial), generator=torch.Generator().manual_seed(0)).to(initial)
    return RoundRule(rule, 1, cell.protocol.rounds, made if rule.broadcasts else None)
