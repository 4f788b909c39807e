"""Sample level: canaries among one client's samples, in by the fall of a coin.

*One run*: the whole federation runs once with many canaries beside one client's samples, and everything that this
client sends (the exploration too) is held against everything that the ledger counts. *Clopper-Pearson*: one canary,
many local trainings with and without it, against what is proven for one local training.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from attacks.canaries import coins, noise_images
from attacks.empirical_epsilon import clopper_pearson
from autoflip_secure.audit_record import EmpiricalEpsilon
from autoflip_secure.cell import Cell
from autoflip_secure.federation import run_cells
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer
from defenses.accountants import Mechanism, prv_epsilon, rdp_epsilon
from scenarios.audit_view import (
    CONFIDENCE,
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

BRIGHT = 10.0
"""Brightness of a lone canary: many bright ones would spoil the training that they hide in."""


def sample_epsilons(cell: Cell, trainer: Trainer, views: Views, victim: int, effort: Effort) -> list[EmpiricalEpsilon]:
    """Lower bounds beside upper bounds for one client's samples."""
    return [_whole_run(cell, trainer, victim, effort), _one_training(cell, trainer, views, victim, effort)]


def _whole_run(cell: Cell, trainer: Trainer, victim: int, effort: Effort) -> EmpiricalEpsilon:
    """Each canary's score: by how much all that the client sent raises the confidence in it, added up."""
    problem, source = cell.problem, generator(cell.seed, Purpose.CANARIES, 0)
    images, labels = noise_images(effort.samples, problem.x_train, problem.num_classes, source)
    included = coins(effort.samples, source)
    rows = (torch.arange(effort.samples)[included] + len(problem.x_train)).to(problem.x_train.device)
    clients = [torch.cat([own, rows]) if k == victim else own for k, own in enumerate(problem.clients)]
    x, y = torch.cat([problem.x_train, images]), torch.cat([problem.y_train, labels])
    trial, seen = with_clients(cell, clients, x, y), Views()
    run_cells([trial], trainer, watch=seen)
    releases = [(before.weights, row) for before, row in seen.sent.get(victim, [])]
    explorers, deviations = seen.explored.get(cell.key, (torch.zeros(0), torch.zeros(0)))
    releases += [(problem.initial, deviations[i]) for i in (explorers == victim).nonzero().squeeze(1).tolist()]
    starts, steps = (torch.stack(parts) for parts in zip(*releases, strict=True))
    raised = confidences(cell, starts + steps, images, labels) - confidences(cell, starts, images, labels)
    what = f"noise images among the samples of client {victim}, everything that it sent"
    # a guarantee for whole clients is about another relation: it is not held against single samples
    mechanism = cell.protocol.mechanism
    claimed = mechanism is not None and mechanism.unit == "sample"
    proven = proven_epsilon(trial, "server", victim) if claimed else None
    return by_one_run("sample", "server", what, raised.sum(0).cpu(), included, proven)


def _one_training(cell: Cell, trainer: Trainer, views: Views, victim: int, effort: Effort) -> EmpiricalEpsilon:
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
    scores = confidences(cell, before.weights + sent, image, label)[:, 0].cpu()
    what = f"one bright noise image among the samples of client {victim}, one local training"
    lower = _over_runs(scores[:half], scores[half:])
    return bound("Clopper-Pearson", "sample", "server", what, 2 * half, lower, _proven_steps(job, cell))


def _over_runs(inside: Tensor, outside: Tensor) -> float:
    """The threshold is chosen on one half of the runs and judged on the other."""
    half, best = len(inside) // 2, (0.0, float("inf"))
    for threshold in torch.cat([inside[:half], outside[:half]]).tolist():
        hits, alarms = int((inside[:half] >= threshold).sum()), int((outside[:half] >= threshold).sum())
        best = max(best, (clopper_pearson(hits, half, alarms, half, DELTA, CONFIDENCE), threshold))
    hits, alarms = int((inside[half:] >= best[1]).sum()), int((outside[half:] >= best[1]).sum())
    return clopper_pearson(hits, len(inside) - half, alarms, len(outside) - half, DELTA, CONFIDENCE)


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
