"""The local rule of a cell: what the server sends for it before round 1, and jobs that train by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.outside_answers import broadcast_of
from autoflip_secure.interfaces import BroadcastView, ClientJob, Exploration, RoundRule
from autoflip_secure.seeds import Purpose, generator


def broadcast(cell: Cell, exploration: Exploration | None) -> Float[Tensor, " params"] | None:
    """What each client is sent once for its local rule; None: nothing. Draws at (LOCAL_RULE, ...)."""
    rule = cell.protocol.rule
    if rule is None:
        return None
    seen = exploration if rule.needs_exploration else None
    view = BroadcastView(cell.problem.layout, seen, partial(generator, cell.seed, Purpose.LOCAL_RULE))
    return broadcast_of(rule, view, cell.problem.initial)


def renewed(
    cell: Cell, exploration: Exploration | None, known: Float[Tensor, " params"] | None, step: Tensor, round_: int,
    participants: Sequence[int],
) -> Float[Tensor, " params"] | None:  # fmt: skip
    """What clients of ``round_`` are sent after the server's ``step`` for their local rule, where it is renewed; else
    what was sent before. ``participants``: of the round before."""
    rule = cell.protocol.rule
    if rule is None or round_ > cell.protocol.rounds or not rule.renews(round_, cell.protocol.rounds):
        return known
    seen = exploration if rule.needs_exploration else None
    draws = partial(generator, cell.seed, Purpose.LOCAL_RULE)
    view = BroadcastView(
        layout=cell.problem.layout,
        exploration=seen,
        generator=lambda *address: draws(*address, round_),
        round=round_,
        step=step,
        before=known,
        participants=tuple(participants),
    )
    return broadcast_of(rule, view, cell.problem.initial)


def acts(cell: Cell, round_: int) -> bool:
    """Whether the rule changes anything in this round: one that does nothing but move masks may not."""
    rule = cell.protocol.rule
    return rule is not None and (rule.hooks != {"mask"} or rule.moves_in(round_, cell.protocol.rounds))


def ruled(cell: Cell, jobs: list[ClientJob], round_: int, sent: Float[Tensor, " params"] | None) -> list[ClientJob]:
    """``jobs`` under the cell's local rule; malicious clients train by it too."""
    rule = cell.protocol.rule
    if rule is None:
        return jobs
    if not acts(cell, round_):
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
