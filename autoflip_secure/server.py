"""The server's side: state in, state out. ``plan_round`` and ``finish_round`` are pure; training lies between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.cell import Cell
from autoflip_secure.clients import attack_updates, client_jobs, finite_rows, weight_decay_shrinkage
from autoflip_secure.guidance import evolve, initial_guidance
from autoflip_secure.interfaces import ClientJob, Exploration, Guidance, PruneView, RoundView
from autoflip_secure.recording import Outcome
from autoflip_secure.seeds import Purpose, generator


@dataclass(frozen=True)
class ServerState:
    """Everything the server carries from round to round."""

    round: int
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]
    exploration: Exploration | None
    guidance: Guidance | None
    aggregator: Any


def _prune(cell: Cell, state: ServerState) -> ServerState:
    """Ask the pruner, and rescale when the mask changed."""
    protocol, problem = cell.protocol, cell.problem
    view = PruneView(
        layout=problem.layout,
        chain=problem.chain,
        weights=state.weights,
        mask=state.mask,
        exploration=state.exploration,
        guidance=state.guidance,
        round=state.round,
        rounds=protocol.rounds,
        generator=partial(generator, cell.seed, Purpose.PRUNING),
        normalisation=protocol.guidance.normalisation,
    )
    mask = protocol.pruner.mask(view)
    if mask is state.mask or torch.equal(mask, state.mask):
        return state
    return replace(state, mask=mask, weights=protocol.pruner.rescale(state.weights, state.mask, mask, view))


def begin(cell: Cell, exploration: Exploration | None) -> ServerState:
    """The state before round 1: memories seeded, initial weights pruned."""
    problem, protocol = cell.problem, cell.protocol
    weights = problem.initial
    state = ServerState(
        round=0,
        weights=weights,
        mask=torch.ones_like(weights, dtype=torch.bool),
        exploration=exploration,
        guidance=None if exploration is None else initial_guidance(exploration),
        aggregator=protocol.aggregator.start(problem.layout, weights, len(problem.clients), exploration),
    )
    state = _prune(cell, state)
    if exploration is None:
        return state
    # what single explorers sent is used up; kept, it would be the largest thing in memory
    return replace(state, exploration=replace(exploration, deviations=exploration.deviations[:0]))


def plan_round(cell: Cell, state: ServerState) -> tuple[Int[Tensor, " cohort"], list[ClientJob]]:
    """Who takes part in the next round, and what they train."""
    round_ = state.round + 1
    clients = cell.draw(Purpose.COHORT, cell.protocol.cohort, round_)
    return clients, client_jobs(cell, state.weights, state.mask, clients, round_)


def finish_round(cell: Cell, state: ServerState, clients: Tensor, updates: Tensor) -> tuple[ServerState, Outcome]:
    """From the cohort's honest updates (cohort, params) to the next state."""
    problem, protocol, round_ = cell.problem, cell.protocol, state.round + 1
    device = updates.device
    sent = attack_updates(cell, updates, clients, state.mask, round_)
    usable = finite_rows(sent)
    here = clients.to(device)[usable]
    samples = torch.tensor([len(problem.clients[k]) for k in here.tolist()], dtype=torch.float32, device=device)
    scores = torch.zeros(len(clients), device=device)
    trust = torch.zeros(len(clients), device=device)
    delta = torch.zeros_like(state.weights)
    after, events = replace(state, round=round_), []
    if bool(usable.any()):
        view = RoundView(
            round=round_,
            clients=here,
            samples=samples,
            updates=sent[usable],
            weights=state.weights,
            mask=state.mask,
            guidance=state.guidance,
            layout=problem.layout,
            shrinkage=weight_decay_shrinkage(protocol.training, samples),
        )
        decision = protocol.aggregator.aggregate(state.aggregator, view)
        weights = torch.where(state.mask, state.weights + decision.delta, 0.0)
        if bool(finite_rows(weights[None]).all()):
            delta, trust[usable] = decision.delta, decision.trust
            guidance = state.guidance
            if guidance is not None:
                guidance = evolve(guidance, view.directions, decision.trust, protocol.guidance.beta)
            after = replace(after, weights=weights, guidance=guidance, aggregator=decision.state)
        else:
            events.append("no step: the aggregate would have made the global model not finite")
        if decision.scores is not None:
            scores[usable] = decision.scores
    else:
        events.append("no step: no participant sent a finite update")
    rejected = clients[(~usable).cpu()].tolist()
    if rejected:
        events.append(f"clients {', '.join(map(str, rejected))} sent an update that is not finite: filtered")
    outcome = Outcome(
        round=round_,
        participants=clients.tolist(),
        bad=cell.bad_in(round_)[clients].tolist(),
        scores=scores.tolist() if protocol.aggregator.scores_clients else None,
        trust=trust.tolist(),
        rejected=rejected,
        delta=delta,
        sent=sent[usable],
        mask=state.mask,
        samples=int(sum(len(problem.clients[k]) for k in clients.tolist())),
        events=tuple(f"round {round_}: {event}" for event in events),
    )
    return _prune(cell, after), outcome
