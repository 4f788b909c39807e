"""Membership inference against one client's update, and against the final global model.

Non-members are test samples: same source, never trained on, of the classes that members have.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from attacks.membership import lira, loss_threshold
from autoflip_secure.audit_record import MembershipResult
from autoflip_secure.cell import Cell
from autoflip_secure.federation import Watcher, run_cells
from autoflip_secure.seeds import Purpose, generator, numpy_generator
from autoflip_secure.server import ServerState
from autoflip_secure.training import Trainer
from scenarios.audit_view import Effort, Views, as_sent, confidences, halves, job_of, with_clients
from scenarios.judging import membership

_APART = 7919  # seeds of shadow federations


def against_update(cell: Cell, trainer: Trainer, views: Views, victim: int, effort: Effort) -> list[MembershipResult]:
    """Membership in one client's data, from its update in the last round it took part in.

    Shadow models are local trainings from the same global weights, each on a random half of members and others.
    """
    problem, (before, update) = cell.problem, views.sent[victim][-1]
    job = job_of(cell, before, victim)
    source = generator(cell.seed, Purpose.AUDIT, 0)
    x, y = _everything(cell)
    outside = _like(job.labels.cpu(), problem.y_test.cpu(), problem.num_classes, source)
    inside = job.samples.cpu()[torch.randperm(len(job.samples), generator=source)[: len(outside)]]
    pool = torch.cat([inside, outside + len(problem.y_train)]).to(x.device)
    truth = torch.arange(len(pool)) < len(inside)
    included = halves(effort.shadows, len(pool), source)
    jobs = [
        replace(job, samples=pool[half], labels=y[pool[half]], address=(*job.address, 1 + number))
        for number, half in enumerate(included)
    ]
    trained = trainer.train(problem.module, problem.layout, x, jobs, cell.protocol.training)
    shadows = confidences(cell, before.weights + as_sent(cell, before, trained.updates, 5), x[pool], y[pool]).cpu()
    phi = confidences(cell, (before.weights + update)[None], x[pool], y[pool])[0].cpu()
    rng, view = numpy_generator(cell.seed, Purpose.AUDIT, 1), f"update of client {victim}"
    return [
        membership("loss threshold", view, truth, loss_threshold(phi), rng),
        membership("LiRA", view, truth, lira(phi, shadows, included), rng),
    ]


def _everything(cell: Cell) -> tuple[Tensor, Tensor]:
    """Training samples, then test samples."""
    problem = cell.problem
    return torch.cat([problem.x_train, problem.x_test]), torch.cat([problem.y_train, problem.y_test])


def _like(labels: Tensor, others: Tensor, classes: int, source: torch.Generator) -> Tensor:
    """As many of ``others`` as there are labels (or can be had), in the same proportions: else the class would tell."""
    share = torch.bincount(labels, minlength=classes).double()
    weight = share[others] / torch.bincount(others, minlength=classes).clamp_min(1)[others]
    count = min(len(labels), int((weight > 0).sum()))
    return torch.multinomial(weight, count, generator=source)


class _Finals(Watcher):
    """Keeps the last global weights of every cell, in order."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        """Keep them."""
        if after.round == cell.protocol.rounds:
            self.weights.append(after.weights)


def against_model(cell: Cell, trainer: Trainer, views: Views, effort: Effort) -> list[MembershipResult]:
    """Membership in anybody's data, from the final global model; shadow federations deal a pool anew."""
    problem, source = cell.problem, generator(cell.seed, Purpose.AUDIT, 2)
    own = torch.cat([rows.cpu() for rows in problem.clients])
    count = min(len(own), len(problem.y_test), effort.most)
    inside = own[torch.randperm(len(own), generator=source)[:count]]
    outside = torch.randperm(len(problem.y_test), generator=source)[:count] + len(problem.y_train)
    x, y = _everything(cell)
    pool = torch.cat([inside, outside])
    truth = torch.arange(2 * count) < count
    phi = confidences(cell, views.final.weights[None], x[pool.to(x.device)], y[pool.to(x.device)])[0].cpu()
    rng, view = numpy_generator(cell.seed, Purpose.AUDIT, 3), "final global model"
    found = [membership("loss threshold", view, truth, loss_threshold(phi), rng)]
    included = halves(effort.federations, 2 * count, source)
    cells = _shadow_federations(cell, x, y, own, pool, included, source)
    if cells:
        finals = _Finals()
        run_cells(cells, trainer, watch=finals)
        at = pool.to(x.device)
        shadows = confidences(cell, torch.stack(finals.weights), x[at], y[at]).cpu()
        found.append(membership("LiRA", view, truth, lira(phi, shadows, included), rng))
    return found


def _shadow_federations(
    cell: Cell, x: Tensor, y: Tensor, own: Tensor, pool: Tensor, included: Tensor, source: torch.Generator
) -> list[Cell]:
    """One federation per half of the pool; members stay with their client, others get a random one.

    Empty where a shadow client would have too few samples to train as the real ones do.
    """
    problem = cell.problem
    home = torch.randint(0, len(problem.clients), (len(y),), generator=source)
    for client, rows in enumerate(problem.clients):
        home[rows.cpu()] = client
    kept = torch.zeros(len(y), dtype=torch.bool)
    kept[own] = True
    kept[pool] = False
    cells = []
    for number, half in enumerate(included):
        used = kept.clone()
        used[pool[half]] = True
        clients = [(used & (home == k)).nonzero().squeeze(1).to(x.device) for k in range(len(problem.clients))]
        shadow = with_clients(cell, clients, x, y)
        cells.append(replace(shadow, key=f"{cell.key}-{number}", seed=cell.seed + _APART * (number + 1)))
    fewest = cell.protocol.training.batch_size if cell.protocol.mechanism is not None else 1
    weakest = min(len(rows) for one in cells for rows in one.problem.clients)
    return cells if weakest >= fewest else []
