"""The server's side: state in, state out. ``plan_round`` and ``finish_rounds`` are pure; training lies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from autoflip_secure.algorithm.guidance import evolve, initial_guidance
from autoflip_secure.algorithm.server_step import server_step
from autoflip_secure.federation.aggregating import Question, aggregate_cells, start
from autoflip_secure.federation.arriving import Arrived, Cohort, arrive
from autoflip_secure.federation.attacking import AttackMemory
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channel_rounds import Sent
from autoflip_secure.federation.channels import Measured, accumulating
from autoflip_secure.federation.clients import UNUSABLE, chosen, client_jobs, usable_rows
from autoflip_secure.federation.deciding import decide_secretly, question, scores_of_all
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.outcome import Outcome
from autoflip_secure.federation.ruling import acts, broadcast, renewed, ruled
from autoflip_secure.federation.scored_rounds import (
    after_step,
    first_model,
    live_masks,
    of_enough_holders,
    scoring_jobs,
)
from autoflip_secure.federation.server_pruning import pruned
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import Aggregate, ClientJob, Exploration, Guidance, Received
from autoflip_secure.models.masks import facts, kept
from autoflip_secure.secure_rows.secure_sum import SecureSum, SecureTransfer


def begin(
    cell: Cell,
    exploration: Exploration | None,
    attack: AttackMemory | None = None,
    channels: Mapping[str, Received] | None = None,
) -> ServerState:
    """The state before round 1: memories seeded, initial weights pruned.

    Args:
        attack: what explorers remember.
        channels: what clients sent before training; None: no pruner asked.
    """
    problem, protocol = cell.problem, cell.protocol
    weights, scored = first_model(cell)
    if exploration is not None and protocol.mechanism is not None:
        # they have no noise, and nothing that is published may rest on them
        exploration = replace(exploration, losses=())
    state = ServerState(
        round=0,
        weights=weights,
        mask=torch.ones_like(weights, dtype=torch.bool),
        exploration=exploration,
        guidance=None if exploration is None or not protocol.guided else initial_guidance(exploration),
        aggregator=start(protocol.aggregator, problem.layout, weights, len(problem.clients), exploration),
        privacy=protocol.client_level.start() if protocol.client_level is not None else None,
        momentum=torch.zeros_like(weights) if protocol.server_momentum > 0 else None,
        broadcast=broadcast(cell, exploration),
        attack=attack,
        scored=scored,
    )
    state = pruned(cell, state, channels)
    return state if exploration is None else _used_up(cell, state, exploration)


def begin_again(cell: Cell, state: ServerState, exploration: Exploration, attack: AttackMemory | None) -> ServerState:
    """The state once explorers have explored again from it: guidance and mask are drawn anew, and the weights rescaled
    where the mask changed. What the aggregator remembers stays."""
    guidance = initial_guidance(exploration) if cell.protocol.guided else None
    state = replace(state, exploration=exploration, guidance=guidance, attack=attack)
    return _used_up(cell, pruned(cell, state, again=True), exploration)


def _used_up(cell: Cell, state: ServerState, exploration: Exploration) -> ServerState:
    """Without what single explorers sent, unless it is asked for: it would be the largest thing in memory."""
    if cell.protocol.remembers_explorers:
        return state
    return replace(state, exploration=replace(exploration, deviations=exploration.deviations[:0]))


def plan_round(
    cell: Cell, state: ServerState, own: Masking | None = None
) -> tuple[Int[Tensor, " cohort"], list[ClientJob]]:
    """Who takes part in the next round, and what they train; ``own``: the masks that they decided on."""
    clients = cell.cohort(state.round + 1)
    jobs = round_jobs(cell, state, clients)
    if own is None:
        return clients, jobs
    return clients, own.jobs(jobs, cell.protocol.pruner.snapshot(cell.protocol.training.epochs))


def round_jobs(cell: Cell, state: ServerState, clients: Int[Tensor, " some"]) -> list[ClientJob]:
    """What ``clients`` train in the next round, from what they are sent: weights, mask and broadcast of ``state``."""
    round_ = state.round + 1
    jobs = client_jobs(cell, state.weights, state.mask, clients, round_, model=state.model)
    jobs = ruled(cell, scoring_jobs(cell, state.scored, jobs), round_, state.broadcast)
    return accumulating(cell, jobs, round_)


def finish_rounds(
    cells: Sequence[Cell], states: Sequence[ServerState], cohorts: Sequence[Cohort]
) -> list[tuple[ServerState, Outcome]]:
    """From the cohorts' honest updates to the next states: stage by stage, each for all cells before the next."""
    arrived = [arrive(*one) for one in zip(cells, states, cohorts, strict=True)]
    ruled_on = _decisions(cells, states, cohorts, arrived)
    return [_settle(*one) for one in zip(cells, states, cohorts, arrived, ruled_on, strict=True)]


def finish_round(
    cell: Cell,
    state: ServerState,
    clients: Tensor,
    updates: Tensor,
    sums: SecureSum | None = None,
    own: Masking | None = None,
    measured: Measured | None = None,
) -> tuple[ServerState, Outcome]:
    """One cell's round: see :class:`.Cohort` and :func:`finish_rounds`."""
    return finish_rounds([cell], [state], [Cohort(clients, updates, measured or Measured(), sums, own)])[0]


@dataclass(frozen=True)
class _Decided:
    """What the server makes of one cell's round."""

    aggregate: Aggregate | None  # None: nobody sent what can be used
    usable: Bool[Tensor, " clients"]  # whose rows are in it
    events: tuple[str, ...] = ()
    transfer: SecureTransfer | None = None


def _decisions(
    cells: Sequence[Cell], states: Sequence[ServerState], cohorts: Sequence[Cohort], arrived: Sequence[Arrived]
) -> list[_Decided]:
    """Rows in the open are judged together, secret ones cell by cell through their own parties."""
    found, asked = list[_Decided](), dict[int, Question]()
    for place, (cell, state, cohort, came) in enumerate(zip(cells, states, cohorts, arrived, strict=True)):
        usable, received = came.usable, came.brought.received or {}
        if cell.protocol.visibility.secret:
            assert cohort.sums is not None
            passed = decide_secretly(cell, state, cohort.clients, came.sent, usable, received, cohort.sums)
            found.append(_Decided(passed[0], passed[1], tuple(passed[2]), passed[3]))
            continue
        found.append(_Decided(None, usable))
        if bool(usable.any()):
            asked[place] = question(cell, state, cohort.clients, came.sent, usable, received, cohort.own)
    for place, aggregated in zip(asked, aggregate_cells(list(asked.values())), strict=True):
        found[place] = replace(found[place], aggregate=aggregated)
    return found


def _settle(
    cell: Cell, state: ServerState, cohort: Cohort, came: Arrived, decided: _Decided
) -> tuple[ServerState, Outcome]:
    """The step of one cell, what follows from it, and what happened."""
    problem, protocol, round_ = cell.problem, cell.protocol, state.round + 1
    private, visibility, clients, own = protocol.client_level, protocol.visibility, cohort.clients, cohort.own
    decision, usable, raw, measured = decided.aggregate, decided.usable, came.raw, cohort.measured
    everyone = bool(usable.all())
    sent = came.sent if everyone else came.sent[usable]
    events = [*came.attacked.events, *came.brought.events, *decided.events]
    held = None if own is None else own.masks[usable]
    if decision is None:
        step = torch.zeros_like(state.weights)
    else:
        step = of_enough_holders(cell, problem.layout.still(decision.delta), held)
    after = replace(state, round=round_, attack=came.attacked.memory)
    if private is not None and came.view is not None:
        if protocol.aggregator.one_sum:  # the mean over who came becomes the sum over how many were expected
            step = step * (float(usable.sum()) / came.view.expected)
        shown = raw[:0] if visibility.secret else chosen(raw, usable)
        step, clip = private.publish(state.privacy, step, shown, came.view)
        after = replace(after, privacy=clip)
    trust = torch.zeros(len(clients), device=raw.device)
    moved, momentum = _server_step(cell, state, step, decision)
    weights, mask = _moved(cell, state, own, usable, moved)
    if decision is None and visibility.noise != "central":  # else: noise alone
        events += [] if events else ["no step: no participant sent a finite update"]
        moved = torch.zeros_like(moved)
    elif bool(usable_rows(weights[None]).all()):
        if decision is not None:
            trust = decision.trust if everyone else trust.index_put((usable,), decision.trust)
        rows = sent if visibility.guidance == "rows" else None
        after = replace(
            after,
            mask=mask,
            momentum=momentum,
            aggregator=state.aggregator if decision is None else decision.state,
            guidance=_evolve(cell, state.guidance, rows, step, decision),
        )
        after = after_step(cell, after, weights, held)
    else:
        events.append(f"no step: the aggregate would have made the global model {UNUSABLE}")
        moved = torch.zeros_like(moved)
    participants = clients.tolist()
    rejected = [] if everyone else clients[(~usable).cpu()].tolist()
    events += _strange(clients, came.sent, came.beside) if rejected else []
    received = came.brought.received or {}
    outcome = Outcome(
        round=round_,
        participants=participants,
        malicious=cell.malicious_in(round_)[clients].tolist(),
        scores=scores_of_all(protocol.aggregator.scores_clients, decision, usable),
        trust=trust.tolist(),
        rejected=rejected,
        delta=moved,
        sent=sent,
        mask=state.mask if own is None else own.held,
        own=own,
        live=live_masks(cell, state, raw, own, cohort.updates),
        known=None if state.scored is None else state.scored.known,
        samples=sum(len(problem.clients[k]) for k in participants),
        events=tuple(f"round {round_}: {event}" for event in events),
        train_loss=cohort.train_loss,
        transfer=decided.transfer,
        channels=measured.channels,
        channel_rows={name: chosen(rows, usable) for name, rows in came.beside.rows.items()},
        channel_means={name: found.mean for name, found in received.items()},
        channel_transfers=came.brought.transfers,
        gradient_passes=measured.passes,
        broadcast_round=state.broadcast_round if state.broadcast is not None and acts(cell, round_) else None,
        aggregated=len(sent) if decision is None or decision.rows is None else decision.rows,
    )
    return _renewed(cell, pruned(cell, after, came.brought.received), moved, participants), outcome


def _renewed(cell: Cell, state: ServerState, step: Tensor, here: list[int]) -> ServerState:
    """With what the next round's clients are sent for their local rule, after ``step``, in which ``here`` took part."""
    told = renewed(cell, state.exploration, state.broadcast, step, state.round + 1, here)
    return state if told is state.broadcast else replace(state, broadcast=told, broadcast_round=state.round + 1)


def _moved(cell: Cell, state: ServerState, own: Masking | None, usable: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """Weights after the step, and where they are: on the shared mask, and on what clients grew where they move it."""
    held = state.mask
    if own is not None and cell.protocol.pruner.collects:
        held = held | chosen(own.masks, usable).any(0)
    return kept(state.weights + by, held), held


def _strange(clients: Tensor, sent: Tensor, beside: Sent) -> list[str]:
    """Who sent what that cannot be used, a sentence per channel."""
    strange = clients[~usable_rows(sent).cpu()].tolist()
    said = [f"clients {', '.join(map(str, strange))} sent an update that is {UNUSABLE}: filtered"] if strange else []
    return said + beside.unusable(clients)


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


def _evolve(
    cell: Cell, guidance: Guidance | None, rows: Tensor | None, step: Tensor, decision: Aggregate | None
) -> Guidance | None:
    """Guidance learns from the rows and what they counted for; from the step where it is shown none."""
    if guidance is None or (decision is None and rows is not None):
        return guidance
    of_trained = cell.problem.layout.of_trained
    if rows is not None and decision is not None:
        return evolve(guidance, of_trained(rows), decision.trust, cell.protocol.guidance.beta)
    return evolve(guidance, of_trained(step)[None], step.new_ones(1), cell.protocol.guidance.beta)
