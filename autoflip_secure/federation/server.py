"""The server's side: state in, state out. ``plan_round`` and ``finish_rounds`` are pure; training lies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.algorithm.guidance import evolve, initial_guidance
from autoflip_secure.federation.aggregating import Question, aggregate_cells, start
from autoflip_secure.federation.arriving import Arrived, Cohort, arrive
from autoflip_secure.federation.attacking import AttackMemory
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channel_rounds import Sent
from autoflip_secure.federation.channels import Measured, accumulating
from autoflip_secure.federation.clients import (
    LARGEST_NORM,
    UNUSABLE,
    Usable,
    client_jobs,
    listed,
    usable_rows,
)
from autoflip_secure.federation.deciding import decide_secretly, of_all, question
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.outcome import Outcome
from autoflip_secure.federation.ruling import acts, broadcast, renewed, ruled
from autoflip_secure.federation.scored_rounds import (
    after_step,
    first_model,
    live_masks,
    scoring_jobs,
)
from autoflip_secure.federation.server_pruning import pruned
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.stepping import Step, step_of
from autoflip_secure.interfaces import Aggregate, ClientJob, Exploration, Guidance, Received
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
    """From the cohorts' honest updates to the next states: stage by stage, each for all cells before the next.

    What the host has to know of a stage, flags and a few numbers, is fetched for all cells at once.
    """
    arrived = [arrive(*one) for one in zip(cells, states, cohorts, strict=True)]
    ruled_on = _decisions(cells, states, cohorts, arrived)
    steps = [
        step_of(cell, state, cohort, came, decided.aggregate, decided.usable)
        for cell, state, cohort, came, decided in zip(cells, states, cohorts, arrived, ruled_on, strict=True)
    ]
    told = _told(cells, states[0].round + 1, cohorts, ruled_on, steps)
    return [_settle(*one) for one in zip(cells, states, cohorts, arrived, ruled_on, steps, told, strict=True)]


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
    usable: Usable  # whose rows are in it
    events: tuple[str, ...] = ()
    transfer: SecureTransfer | None = None


def _decisions(
    cells: Sequence[Cell], states: Sequence[ServerState], cohorts: Sequence[Cohort], arrived: Sequence[Arrived]
) -> list[_Decided]:
    """Rows in the open are judged together, secret ones cell by cell through their own parties."""
    found, asked = list[_Decided](), dict[int, Question]()
    able = Usable.of(*(came.usable for came in arrived))
    for place, (cell, state, cohort, came, usable) in enumerate(
        zip(cells, states, cohorts, arrived, able, strict=True)
    ):
        received = came.brought.received or {}
        if cell.visibility.secret:
            assert cohort.sums is not None
            passed = decide_secretly(cell, state, cohort.clients, came.sent, usable, received, cohort.sums)
            found.append(_Decided(passed[0], passed[1], tuple(passed[2]), passed[3]))
            continue
        found.append(_Decided(None, usable))
        if usable.anybody:
            asked[place] = question(cell, state, cohort.clients, came.sent, usable, received, cohort.own)
    for place, aggregated in zip(asked, aggregate_cells(list(asked.values())), strict=True):
        found[place] = replace(found[place], aggregate=aggregated)
    return found


@dataclass(frozen=True)
class _Told:
    """Of one cell's round, what is looked at number by number."""

    participants: list[int]
    malicious: list[bool]
    trust: list[float]
    scores: list[float]
    sound: bool  # the weights can be computed with


def _told(
    cells: Sequence[Cell], round_: int, cohorts: Sequence[Cohort], decided: Sequence[_Decided], steps: Sequence[Step]
) -> list[_Told]:
    clients = [one.clients for one in cohorts]
    malicious = listed([cell.malicious_in(round_)[own] for cell, own in zip(cells, clients, strict=True)])
    given = [(one.aggregate, one.usable) for one in decided]
    trust = listed([of_all(None if found is None else found.trust, usable) for found, usable in given])
    scores = listed([of_all(None if found is None else found.scores, usable) for found, usable in given])
    sound = torch.stack([torch.linalg.vector_norm(one.weights) for one in steps]) <= LARGEST_NORM
    return list(map(_Told, listed(clients), malicious, trust, scores, sound.tolist()))


def _settle(
    cell: Cell, state: ServerState, cohort: Cohort, came: Arrived, decided: _Decided, step: Step, told: _Told
) -> tuple[ServerState, Outcome]:
    """What follows from the step of one cell, and what happened."""
    problem, protocol, round_, own = cell.problem, cell.protocol, state.round + 1, cohort.own
    decision, usable, measured, participants = decided.aggregate, decided.usable, cohort.measured, told.participants
    sent, received = usable.chosen(came.sent), came.brought.received or {}
    events = [*came.attacked.events, *came.brought.events, *decided.events]
    after = replace(state, round=round_, attack=came.attacked.memory, privacy=step.privacy)
    moved, trust = step.moved, [0.0] * len(participants)
    if decision is None and cell.visibility.noise != "central":  # else: noise alone
        events += [] if events else ["no step: no participant sent a finite update"]
        moved = torch.zeros_like(moved)
    elif told.sound:
        trust = told.trust
        rows = sent if cell.visibility.guidance == "rows" else None
        after = replace(
            after,
            mask=step.mask,
            momentum=step.momentum,
            aggregator=state.aggregator if decision is None else decision.state,
            guidance=_evolve(cell, state.guidance, rows, step.published, decision),
        )
        after = after_step(cell, after, step.weights, step.held)
    else:
        events.append(f"no step: the aggregate would have made the global model {UNUSABLE}")
        moved = torch.zeros_like(moved)
    rejected = usable.others(participants)
    events += _strange(cohort.clients, came.sent, came.beside) if rejected else []
    outcome = Outcome(
        round=round_,
        participants=participants,
        malicious=told.malicious,
        scores=told.scores if protocol.aggregator.scores_clients else None,
        trust=trust,
        rejected=rejected,
        delta=moved,
        sent=sent,
        mask=state.mask if own is None else own.held,
        own=own,
        live=live_masks(cell, state, came.raw, own, cohort.updates),
        known=None if state.scored is None else state.scored.known,
        samples=sum(len(problem.clients[k]) for k in participants),
        events=tuple(f"round {round_}: {event}" for event in events),
        train_loss=cohort.train_loss,
        transfer=decided.transfer,
        channels=measured.channels,
        channel_rows={name: usable.chosen(rows) for name, rows in came.beside.rows.items()},
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


def _strange(clients: Tensor, sent: Tensor, beside: Sent) -> list[str]:
    """Who sent what that cannot be used, a sentence per channel."""
    strange = clients[~usable_rows(sent).cpu()].tolist()
    said = [f"clients {', '.join(map(str, strange))} sent an update that is {UNUSABLE}: filtered"] if strange else []
    return said + beside.unusable(clients)


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
