"""Sample level: canaries among one client's samples, in by the fall of a coin.

The whole federation runs once with many canaries beside one client's samples, and everything that this client sends
(the exploration too) is held against everything that the ledger counts. And one canary, in many local trainings by a
coin each, against what is proven for one local training.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor, sqrt

import torch
from torch import Tensor

from autoflip_secure.attacks.inference.canaries import coins, noise_images
from autoflip_secure.attacks.inference.decoding import decode
from autoflip_secure.defenses.privacy.accountants import Mechanism
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.records.audit import EmpiricalEpsilon
from autoflip_secure.scenarios.audits.claims import Claim, audited, claim, unproven_claim, weaker
from autoflip_secure.scenarios.audits.membership import gradients_of, ridge_of
from autoflip_secure.scenarios.audits.view import (
    Attacked,
    Effort,
    Views,
    as_sent,
    confidences,
    job_of,
    judged,
    with_clients,
)
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer

MANY, BRIGHT = 3.0, 10.0
"""Brightness of many canaries, and of a lone one: many bright ones would spoil the training that they hide in."""


def sample_epsilons(
    cell: Cell, trainer: Trainer, views: Views, victim: int, effort: Effort, confidence: float
) -> list[EmpiricalEpsilon]:
    """What canaries among one client's samples show, each bound with ``confidence``, beside what is proven for it."""
    return [
        _whole_run(cell, trainer, victim, effort, confidence),
        _one_training(cell, trainer, views, victim, effort, confidence),
    ]


def _whole_run(cell: Cell, trainer: Trainer, victim: int, effort: Effort, confidence: float) -> EmpiricalEpsilon:
    """Each canary's score: how much of it is in what the client sent, added up over all that it sent."""
    problem, source = cell.problem, generator(cell.seed, Purpose.CANARIES, 0)
    images, labels = noise_images(effort.samples, problem.x_train, problem.num_classes, source, MANY)
    included = coins(effort.samples, source)
    rows = (torch.arange(effort.samples)[included] + len(problem.x_train)).to(problem.x_train.device)
    clients = [torch.cat([own, rows]) if k == victim else own for k, own in enumerate(problem.clients)]
    x, y = torch.cat([problem.x_train, images]), torch.cat([problem.y_train, labels])
    trial, seen = with_clients(cell, clients, x, y), Views()
    watch_cells([trial], trainer, seen)
    whole = torch.ones_like(problem.initial, dtype=torch.bool)
    first = ServerState(-1, problem.initial, whole, exploration=None, guidance=None, aggregator=None)
    releases = list(seen.sent.get(victim, []))
    explorers, deviations = seen.explored.get(cell.key, (torch.zeros(0), torch.zeros(0)))
    releases += [(first, deviations[i]) for i in (explorers == victim).nonzero().squeeze(1).tolist()]
    scores = torch.zeros(effort.samples)
    for before, row in releases:
        scores += _shown(cell, victim, before, row[None], images, labels, effort)[-1][0]
    what = f"noise images among the samples of client {victim}, everything that it sent"
    claimed = weakest(cell, victim, effort.samples, len(problem.clients[victim]))
    return judged(Attacked("sample", "server", what), claimed, scores[None], included[None], confidence)


def weakest(cell: Cell, victim: int, canaries: int, own: int) -> Claim:
    """The weakest claim for the client's samples, over the numbers of canaries that coins may have let in.

    Rate and steps follow from the number of samples. With as many steps, fewer samples are weaker: so only the fewest
    samples of each number of steps are asked about, within four standard deviations of half of the canaries. A
    guarantee for whole clients is about another relation: it is not held against single samples.
    """
    mechanism = cell.protocol.mechanism
    if mechanism is None:
        return Claim(None, 0.1 / own)
    schedule, spread = audited(cell), 2 * sqrt(canaries)
    assert schedule.delta is not None
    if mechanism.works_on_updates:
        return unproven_claim(schedule, "zero out one sample") or Claim(None, schedule.delta)
    batch = schedule.batch_size
    fewest, most = max(batch, own + floor(canaries / 2 - spread)), own + ceil(canaries / 2 + spread)
    found = []
    for n in range(fewest, min(most, own + canaries) + 1):
        if n == fewest or (n - 1) % batch == 0:
            sizes = (*schedule.samples[:victim], n, *schedule.samples[victim + 1 :])
            found.append(claim(replace(schedule, samples=sizes), "server", victim))
    return weaker(found) or Claim(None, schedule.delta)


def _shown(
    cell: Cell, victim: int, before: ServerState, sent: Tensor, images: Tensor, labels: Tensor, effort: Effort
) -> list[Tensor]:
    """How much of each canary is in each row, each (rows, canaries): two ways to look.

    By how much a row raises the confidence in it; and, unless the model is too large for that, decoded beside the
    samples that the client has anyway.
    """
    start = confidences(cell, before.weights[None], images, labels)
    raised = (confidences(cell, before.weights + sent, images, labels) - start).cpu()
    job = job_of(cell, before, victim)
    known, theirs = job.samples[: effort.most], job.labels[: effort.most]
    x = torch.cat([images, cell.problem.x_train[known]])
    gradients = gradients_of(cell, before, job, x, torch.cat([labels, theirs]))
    if gradients is None:
        return [raised]
    return [raised, decode(sent, gradients, ridge_of(cell, job))[:, : len(images)].cpu()]


def _one_training(
    cell: Cell, trainer: Trainer, views: Views, victim: int, effort: Effort, confidence: float
) -> EmpiricalEpsilon:
    """Every run is one canary: the image is in or out by a coin of its own."""
    problem, before = cell.problem, views.sent[victim][-1][0]
    job, source = job_of(cell, before, victim), generator(cell.seed, Purpose.CANARIES, 1)
    image, label = noise_images(1, problem.x_train, problem.num_classes, source, BRIGHT)
    x = torch.cat([problem.x_train, image])
    row = torch.tensor([len(problem.x_train)], device=x.device)
    with_it = replace(job, samples=torch.cat([job.samples, row]), labels=torch.cat([job.labels, label]))
    included = coins(effort.runs, source)
    jobs = [
        replace(with_it if inside else job, address=(*job.address, 2, run))
        for run, inside in enumerate(included.tolist())
    ]
    updates = trainer.train(problem.module, problem.layout, x, jobs, cell.protocol.training).updates
    sent = as_sent(cell, before, updates, 6)
    looks = torch.stack([look[:, 0] for look in _shown(cell, victim, before, sent, image, label, effort)])
    what = f"one bright noise image among the samples of client {victim}, one local training"
    attacked = Attacked("sample", "server", what, "one training")
    third = effort.runs // 3
    look = _sharper(looks[:, :third], included[:third])
    return judged(attacked, _claim_on(job, cell, victim), looks[look, third:, None], included[third:, None], confidence)


def _sharper(looks: Tensor, included: Tensor) -> int:
    """Which of the looks (looks, runs) orders these runs better; they are not judged."""
    ranks = looks.argsort(1).argsort(1).double()
    return int((ranks * (included.double() - 0.5)).sum(1).argmax())


def _claim_on(job: ClientJob, cell: Cell, victim: int) -> Claim:
    """On one local training: the weaker of with and without the canary, whose rates differ."""
    claimed = weakest(cell, victim, 0, len(job.samples))
    if claimed.claimed is not None:  # of everything, and so of this
        return claimed
    if job.private is None or claimed.count is None:
        return replace(claimed, count=None)
    schedule, found = cell.protocol.training, list[Claim | None]()
    for n in (len(job.samples), len(job.samples) + 1):
        rate, steps = min(1.0, schedule.batch_size / n), schedule.epochs * -(-n // schedule.batch_size)
        mechanism = Mechanism(job.private.noise_multiplier, rate, "poisson" if rate < 1 else "none")
        found.append(replace(claimed, count=((mechanism, steps),)))
    return weaker(found) or claimed
