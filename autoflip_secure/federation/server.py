"""The server's side: state in, state out. ``plan_round`` and ``finish_round`` are pure; training lies between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.algorithm.guidance import evolve, initial_guidance
from autoflip_secure.algorithm.server_step import server_step
from autoflip_secure.federation.aggregating import start
from autoflip_secure.federation.attack_trial import defence_of
from autoflip_secure.federation.attacking import AttackMemory, attack_updates
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channel_rounds import Sent, delivered, sent_beside
from autoflip_secure.federation.channels import Measured, accumulating
from autoflip_secure.federation.clients import (
    UNUSABLE,
    chosen,
    client_jobs,
    privacy_view,
    usable_rows,
)
from autoflip_secure.federation.deciding import decide, decide_secretly, scores_of_all
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.outcome import Outcome
from autoflip_secure.federation.ruling import acts, broadcast, renewed, ruled
from autoflip_secure.federation.scored_rounds import (
    after_step,
    first_model,
    honest_rows,
    live_masks,
    of_enough_holders,
    on_the_wire,
    scoring_jobs,
)
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import (
    Aggregate,
    ClientJob,
    Exploration,
    Guidance,
    PruneView,
    Received,
)
from autoflip_secure.models.masks import facts, kept
from autoflip_secure.models.uses import uses_of_weights
from autoflip_secure.secure_rows.secure_sum import SecureSum
from autoflip_secure.seeds import Purpose, generator


def _prune(
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
    state = _prune(cell, state, channels)
    return state if exploration is None else _used_up(cell, state, exploration)


def begin_again(cell: Cell, state: ServerState, exploration: Exploration, attack: AttackMemory | None) -> ServerState:
    """The state once explorers have explored again from it: guidance and mask are drawn anew, and the weights rescaled
    where the mask changed. What the aggregator remembers stays."""
    guidance = initial_guidance(exploration) if cell.protocol.guided else None
    state = replace(state, exploration=exploration, guidance=guidance, attack=attack)
    return _used_up(cell, _prune(cell, state, again=True), exploration)


def _used_up(cell: Cell, state: ServerState, exploration: Exploration) -> ServerState:
    """Without what single explorers sent, unless it is asked for: it would be the largest thing in memory."""
    if cell.protocol.rule is not None and cell.protocol.rule.remembers_explorers:
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


def finish_round(
    cell: Cell,
    state: ServerState,
    clients: Tensor,
    updates: Tensor,
    sums: SecureSum | None = None,
    own: Masking | None = None,
    measured: Measured | None = None,
) -> tuple[ServerState, Outcome]:
    """From the cohort's honest updates (cohort, params) to the next state.

    Args:
        sums: where secret updates go through.
        own: masks of the clients' own; None: all hold the state's.
        measured: the honest rows of the round's other channels; None: there are none.
    """
    problem, protocol, round_ = cell.problem, cell.protocol, state.round + 1
    private, visibility, masks = protocol.client_level, protocol.visibility, state.mask if own is None else own.masks
    trained, updates = updates, honest_rows(cell, state, clients, updates, own)
    measured, travelling = measured or Measured(), state.travelling(problem.layout)
    attacked = attack_updates(
        cell, updates, clients, masks, round_, state.weights, state.attack, defence_of(cell, state, clients, measured)
    )
    raw = on_the_wire(cell, attacked.rows, state.weights, masks)
    view = None if private is None else privacy_view(cell, clients, travelling, round_, weights=state.weights)
    sent = raw if private is None or view is None else private.send(state.privacy, raw, view)
    beside = sent_beside(cell, clients, measured, round_)
    brought = delivered(cell, clients, beside, sent, sums, round_)
    usable, received = brought.usable, brought.received or {}
    decision, events, transfer = None, [*attacked.events, *brought.events], None
    if visibility.secret:
        assert sums is not None
        decision, usable, said, transfer = decide_secretly(cell, state, clients, sent, usable, received, sums)
        events += said
    elif bool(usable.any()):
        decision = decide(cell, state, clients, sent, usable, received, own)
    step, held = torch.zeros_like(state.weights), None if own is None else own.masks[usable]
    if decision is not None:
        step = of_enough_holders(cell, problem.layout.still(decision.delta), held)
    after = replace(state, round=round_, attack=attacked.memory)
    if private is not None and view is not None:
        if protocol.aggregator.one_sum:  # the mean over who came becomes the sum over how many were expected
            step = step * (float(usable.sum()) / view.expected)
        shown = raw[:0] if visibility.secret else chosen(raw, usable)
        step, clip = private.publish(state.privacy, step, shown, view)
        after = replace(after, privacy=clip)
    everyone = bool(usable.all())
    trust = torch.zeros(len(clients), device=updates.device)
    moved, momentum = _server_step(cell, state, step, decision)
    weights, mask = _moved(cell, state, own, usable, moved)
    if decision is None and visibility.noise != "central":  # else: noise alone
        events += [] if events else ["no step: no participant sent a finite update"]
        moved = torch.zeros_like(moved)
    elif bool(usable_rows(weights[None]).all()):
        after = after_step(cell, replace(after, mask=mask, momentum=momentum), weights, held)
        if decision is not None:
            trust = decision.trust if everyone else trust.index_put((usable,), decision.trust)
            after = replace(after, aggregator=decision.state)
        rows = chosen(sent, usable) if visibility.guidance == "rows" else None
        after = replace(after, guidance=_evolve(cell, state.guidance, rows, step, decision))
    else:
        events.append(f"no step: the aggregate would have made the global model {UNUSABLE}")
        moved = torch.zeros_like(moved)
    participants = clients.tolist()
    rejected = [] if everyone else clients[(~usable).cpu()].tolist()
    events += _strange(clients, sent, beside) if rejected else []
    outcome = Outcome(
        round=round_,
        participants=participants,
        malicious=cell.malicious_in(round_)[clients].tolist(),
        scores=scores_of_all(protocol.aggregator.scores_clients, decision, usable),
        trust=trust.tolist(),
        rejected=rejected,
        delta=moved,
        sent=chosen(sent, usable),
        mask=state.mask if own is None else own.held,
        own=own,
        live=live_masks(cell, state, raw, own, trained),
        known=None if state.scored is None else state.scored.known,
        samples=sum(len(problem.clients[k]) for k in participants),
        events=tuple(f"round {round_}: {event}" for event in events),
        transfer=transfer,
        channels=measured.channels,
        channel_rows={name: chosen(rows, usable) for name, rows in beside.rows.items()},
        channel_means={name: found.mean for name, found in received.items()},
        channel_transfers=brought.transfers,
        gradient_passes=measured.passes,
        broadcast_round=state.broadcast_round if state.broadcast is not None and acts(cell, round_) else None,
        aggregated=int(usable.sum()) if decision is None or decision.rows is None else decision.rows,
    )
    return _renewed(cell, _prune(cell, after, brought.received), moved, participants), outcome


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
