"""Sample level: canaries among one client's samples, in by the fall of a coin.

*One run*: the whole federation runs once with many canaries beside one client's samples, and everything that this
client sends (the exploration too) is held against everything that the ledger counts. *Clopper-Pearson*: one canary,
many local trainings with and without it, against what is proven for one local training.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor, sqrt

import torch
from torch import Tensor

from attacks.canaries import coins, noise_images
from attacks.decoding import decode
from attacks.empirical_epsilon import clopper_pearson
from autoflip_secure.audit_record import EmpiricalEpsilon
from autoflip_secure.cell import Cell
from autoflip_secure.federation import run_cells
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.server import ServerState
from autoflip_secure.training import Trainer
from defenses.accountants import Mechanism, prv_epsilon, rdp_epsilon
from scenarios.audit_membership import gradients_of, ridge_of
from scenarios.audit_view import (
    DELTA,
    Effort,
    Views,
    as_sent,
    bound,
    by_one_run,
    confidences,
    job_of,
    proven_epsilon,
    with_clients,
)

MANY, BRIGHT = 3.0, 10.0
"""Brightness of many canaries, and of a lone one: many bright ones would spoil the training that they hide in."""


def sample_epsilons(
    cell: Cell, trainer: Trainer, views: Views, victim: int, effort: Effort, confidence: float
) -> list[EmpiricalEpsilon]:
    """Lower bounds, each with ``confidence``, beside upper bounds for one client's samples."""
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
    run_cells([trial], trainer, watch=seen)
    whole = torch.ones_like(problem.initial, dtype=torch.bool)
    first = ServerState(-1, problem.initial, whole, exploration=None, guidance=None, aggregator=None)
    releases = list(seen.sent.get(victim, []))
    explorers, deviations = seen.explored.get(cell.key, (torch.zeros(0), torch.zeros(0)))
    releases += [(first, deviations[i]) for i in (explorers == victim).nonzero().squeeze(1).tolist()]
    scores = torch.zeros(effort.samples)
    for before, row in releases:
        scores += _shown(cell, victim, before, row[None], images, labels, effort)[-1][0]
    what = f"noise images among the samples of client {victim}, everything that it sent"
    # a guarantee for whole clients is about another relation: it is not held against single samples
    mechanism = cell.protocol.mechanism
    claimed = mechanism is not None and mechanism.unit == "sample"
    proven = weakest(trial, victim, effort.samples, len(problem.clients[victim])) if claimed else None
    return by_one_run("sample", "server", what, scores, included, proven, confidence)


def weakest(trial: Cell, victim: int, canaries: int, own: int) -> float | None:
    """The largest epsilon that is proven for the client, over the numbers of canaries that coins may have let in.

    Rate and steps follow from the number of samples. With as many steps, fewer samples are weaker: so only the fewest
    samples of each number of steps are asked about, within four standard deviations of half of the canaries.
    """
    batch, spread = trial.protocol.training.batch_size, 2 * sqrt(canaries)
    fewest, most = max(batch, own + floor(canaries / 2 - spread)), own + ceil(canaries / 2 + spread)
    asked = [n for n in range(fewest, min(most, own + canaries) + 1) if n == fewest or (n - 1) % batch == 0]
    found = [proven_epsilon(trial, "server", victim, n) for n in asked]
    return None if None in found else max(e for e in found if e is not None)


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
    problem, before = cell.problem, views.sent[victim][-1][0]
    job, source = job_of(cell, before, victim), generator(cell.seed, Purpose.CANARIES, 1)
    image, label = noise_images(1, problem.x_train, problem.num_classes, source, BRIGHT)
    x = torch.cat([problem.x_train, image])
    row = torch.tensor([len(problem.x_train)], device=x.device)
    with_it = replace(job, samples=torch.cat([job.samples, row]), labels=torch.cat([job.labels, label]))
    half = effort.runs // 2
    jobs = [replace(with_it, address=(*job.address, 2, run)) for run in range(half)]
    jobs += [replace(job, address=(*job.address, 3, run)) for run in range(half)]
    updates = trainer.train(problem.module, problem.layout, x, jobs, cell.protocol.training).updates
    sent = as_sent(cell, before, updates, 6)
    looks = torch.stack([look[:, 0] for look in _shown(cell, victim, before, sent, image, label, effort)])
    what = f"one bright noise image among the samples of client {victim}, one local training"
    lower = _over_runs(looks[:, :half], looks[:, half:], confidence)
    return bound("Clopper-Pearson", "sample", "server", what, 2 * half, lower, _proven_steps(job, cell), confidence)


def _over_runs(inside: Tensor, outside: Tensor, confidence: float) -> float:
    """Scores are (looks, runs). Look and threshold are chosen on a third of the runs and judged on the others."""
    third, runs = inside.shape[1] // 3, inside.shape[1]
    best = (0.0, 0, float("inf"))
    for look in range(len(inside)):
        for threshold in torch.cat([inside[look, :third], outside[look, :third]]).tolist():
            hits, alarms = (int((group[look, :third] >= threshold).sum()) for group in (inside, outside))
            best = max(best, (clopper_pearson(hits, third, alarms, third, DELTA, confidence), look, threshold))
    _, look, threshold = best
    hits, alarms = (int((group[look, third:] >= threshold).sum()) for group in (inside, outside))
    return clopper_pearson(hits, runs - third, alarms, runs - third, DELTA, confidence)


def _proven_steps(job: ClientJob, cell: Cell) -> float | None:
    """Epsilon at DELTA of one local training: the weaker of with and without the canary (their rates differ)."""
    if job.private is None or job.private.noise_multiplier == 0:
        return None
    schedule, worst = cell.protocol.training, 0.0
    for n in (len(job.samples), len(job.samples) + 1):
        steps = schedule.epochs * -(-n // schedule.batch_size)
        count = ((Mechanism(job.private.noise_multiplier, min(1.0, schedule.batch_size / n), "poisson"), steps),)
        found = [e for e in (rdp_epsilon(count, DELTA), prv_epsilon(count, DELTA)) if e is not None]
        if not found:
            return None
        worst = max(worst, min(found))
    return worst
