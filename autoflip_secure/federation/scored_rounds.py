"""Rounds of cells whose pruner trains its mask: what clients begin from and send, and the model that comes of it.

The server holds a vector as ever (:attr:`.ServerState.weights`): probabilities where tensors are scored, weights where
they are shared. A client begins from scores, sends bits, and its row is what these are beyond what the server holds,
u_k = b_k - p, so that attacks, filters and aggregators work as on any update, and the mean step makes p the mean of the
bits. The model that is tested and exported, :attr:`.ServerState.model`, is made of what is held.

A message has one bit for each score, so whatever an attacker would like to send arrives as bits, the nearest ones; only
shares, which nobody looks into, carry anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.state import ScoredState, ServerState
from autoflip_secure.interfaces import (
    ClientJob,
    FrozenStart,
    Scoring,
    SeedView,
    TrainedMask,
    trained_mask,
    trained_thresholds,
)
from autoflip_secure.interfaces.trained_mask import coordinates
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose, generator


@dataclass(frozen=True)
class Places:
    """Coordinates by role, on one device."""

    scored: Bool[Tensor, " params"]
    shared: Bool[Tensor, " params"]
    sent: Bool[Tensor, " params"]  # by clients, in every round: as bits, or as numbers
    personal: Bool[Tensor, " params"]


@lru_cache(maxsize=16)
def places(pruner: TrainedMask, layout: Layout, device: torch.device) -> Places:
    """Coordinates by role."""
    scored, shared, personal = (
        coordinates(pruner, layout, role).to(device) for role in ("scored", "shared", "personal")
    )
    return Places(scored, shared, scored | shared, personal)


def _places(cell: Cell, device: torch.device) -> Places:
    pruner = trained_mask(cell.protocol.pruner)
    assert pruner is not None
    return places(pruner, cell.problem.layout, device)


def frozen_start(cell: Cell) -> FrozenStart:
    """Frozen weights and first probabilities of a seed."""
    pruner, problem = trained_mask(cell.protocol.pruner), cell.problem
    assert pruner is not None
    view = SeedView(problem.layout, problem.initial.cpu(), partial(generator, cell.seed, Purpose.FROZEN_WEIGHTS))
    found, where = pruner.begin(view), problem.initial.device
    return FrozenStart(found.theta.to(where), found.held.to(where))


def model_of(cell: Cell, held: Tensor, round_: int, before: ScoredState | None = None, known: Tensor | None = None
             ) -> ScoredState:  # fmt: skip
    """The model that probabilities make after a round; its draw is at (FROZEN_WEIGHTS, 2, round).

    Args:
        before: with theta; None: made here.
        known: coordinates that clients have moved; None: none.
    """
    pruner = trained_mask(cell.protocol.pruner)
    assert pruner is not None
    theta = frozen_start(cell).theta if before is None else before.theta
    where = _places(cell, held.device)
    if (units := trained_thresholds(pruner)) is not None:  # a view of the thresholds: nobody trains these weights
        weights, alive = units.models(cell.problem.layout, torch.where(where.shared, held, theta)[None])
        return ScoredState(theta, weights[0], alive[0], torch.ones_like(alive[0]))
    uniform = torch.rand(len(held), generator=generator(cell.seed, Purpose.FROZEN_WEIGHTS, 2, round_)).to(held)
    mask = ~where.scored | pruner.live(held, uniform)
    weights = torch.where(where.shared, held, torch.where(mask, theta, 0.0))
    return ScoredState(theta, weights, mask, torch.zeros_like(mask) if known is None else known)


def first_model(cell: Cell) -> tuple[Float[Tensor, " params"], ScoredState | None]:
    """What the server holds before round 1, and the model that it makes where that is another."""
    if trained_mask(cell.protocol.pruner) is None:
        return cell.problem.initial, None
    held = frozen_start(cell).held
    return held, model_of(cell, held, 0)


def rehearsed_scoring(cell: Cell) -> Scoring | None:
    """How its jobs make weights of what they train, to try it on; None: they train the weights themselves."""
    pruner = trained_mask(cell.protocol.pruner)
    return None if pruner is None else Scoring(pruner, frozen_start(cell).theta)


def scoring_jobs(cell: Cell, state: ScoredState | None, jobs: Sequence[ClientJob]) -> list[ClientJob]:
    """``jobs`` that begin from scores instead of from what the server holds."""
    pruner = trained_mask(cell.protocol.pruner)
    if pruner is None or state is None or not jobs:
        return list(jobs)
    scoring, where = Scoring(pruner, state.theta), _places(cell, jobs[0].start.device)
    start = torch.where(where.scored, pruner.scores(jobs[0].start), jobs[0].start)
    return [replace(job, start=start, scoring=scoring) for job in jobs]


def honest_rows(
    cell: Cell, state: ServerState, clients: Int[Tensor, " clients"], updates: Float[Tensor, "clients params"],
    own: Masking | None,
) -> Float[Tensor, "clients params"]:  # fmt: skip
    """What honest clients send, from what training added to where it began."""
    pruner = trained_mask(cell.protocol.pruner)
    if pruner is None:
        return updates if own is None else own.updates(updates, state.weights)
    held, round_ = state.weights, state.round + 1
    if own is not None:
        return sent_rows(cell, held, own.starts + updates, clients, round_, own.masks)
    start = torch.where(_places(cell, held.device).scored, pruner.scores(held), held)
    return sent_rows(cell, held, start + updates, clients, round_)


def sent_rows(
    cell: Cell, held: Float[Tensor, " params"], ends: Float[Tensor, "clients params"], clients: Int[Tensor, " clients"],
    round_: int, masks: Bool[Tensor, "clients params"] | None = None,
) -> Float[Tensor, "clients params"]:  # fmt: skip
    """What honest clients send of what they trained, beyond what is held; bits are drawn at (MASK_DRAWS, round, client,
    0). A client whose scores are not numbers sends none that are.

    Args:
        held: by the server.
        ends: what each trained, at the end.
        masks: what each holds, where that is not everything; 0 elsewhere.
    """
    pruner, where = trained_mask(cell.protocol.pruner), _places(cell, ends.device)
    assert pruner is not None
    rows = torch.where(where.shared, ends - held, 0.0)
    for row, end, client in zip(rows, ends, clients.tolist(), strict=True):
        draws = generator(cell.seed, Purpose.MASK_DRAWS, round_, client, 0)
        uniform = torch.rand(len(held), generator=draws).to(held)
        bits = torch.where(end.isfinite(), pruner.bits(end, uniform).to(held), torch.nan)
        row[where.scored] = (bits - held)[where.scored]
    return rows if masks is None else torch.where(masks, rows, 0.0)


def on_the_wire(
    cell: Cell, rows: Float[Tensor, "clients params"], held: Float[Tensor, " params"],
    masks: Bool[Tensor, "*clients params"],
) -> Float[Tensor, "clients params"]:  # fmt: skip
    """What arrives of rows that somebody may have changed: bits, where these travel, and nothing of what stays.

    A row that is not finite is left as it is, for the filter. In shares anything arrives.
    """
    if trained_mask(cell.protocol.pruner) is None:
        return rows
    where = _places(cell, rows.device)
    if not cell.visibility.secret:
        bits = (rows + held > 0.5).to(rows)
        rows = torch.where(where.scored & rows.isfinite(), bits - held, rows)
    return torch.where(where.sent & masks, rows, 0.0)


def exchanged(cell: Cell, mask: Bool[Tensor, " params"]) -> Bool[Tensor, " params"]:
    """``mask`` without what stays with clients that train thresholds, so that nothing of it is shared or judged."""
    if trained_thresholds(cell.protocol.pruner) is None:
        return mask
    return mask & _places(cell, mask.device).sent


def of_enough_holders(
    cell: Cell, step: Float[Tensor, " params"], masks: Bool[Tensor, "clients params"] | None
) -> Float[Tensor, " params"]:
    """The step without what too few hold; ``masks``: of usable participants, None: all hold everything."""
    pruner = trained_mask(cell.protocol.pruner)
    if pruner is None or masks is None or pruner.least_holders == 1:
        return step
    return torch.where(_places(cell, step.device).scored & (masks.sum(0) < pruner.least_holders), 0.0, step)


def after_step(
    cell: Cell, state: ServerState, held: Float[Tensor, " params"], masks: Bool[Tensor, "clients params"] | None
) -> ServerState:
    """``state`` with what is held after a round, probabilities within [0, 1], and the model that it makes.

    ``masks``: of usable participants; None: all hold everything.
    """
    pruner = trained_mask(cell.protocol.pruner)
    if pruner is None or state.scored is None:
        return replace(state, weights=held)
    held = torch.where(_places(cell, held.device).scored, held.clamp(0, 1), held)
    moved = state.mask if masks is None else masks.sum(0) >= pruner.least_holders
    return replace(
        state, weights=held, scored=model_of(cell, held, state.round, state.scored, state.scored.known | moved)
    )


def live_masks(
    cell: Cell, state: ServerState, sent: Float[Tensor, "clients params"], own: Masking | None,
    trained: Float[Tensor, "clients params"],
) -> Bool[Tensor, "*clients params"] | None:  # fmt: skip
    """What counts as live in a round: of the model that it began with or, with own masks, what each client sent as 1,
    and with thresholds the units over theirs once they have ``trained``.

    None: the masks are as they are.
    """
    if state.scored is None:
        return None
    if own is not None and (units := trained_thresholds(cell.protocol.pruner)) is not None:
        return own.masks & units.models(cell.problem.layout, own.starts + trained)[1]
    if own is None:
        return state.scored.mask
    return own.masks & (~_places(cell, sent.device).scored | (sent + state.weights > 0.5))
