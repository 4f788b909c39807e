"""Membership inference against one client's updates, and against the final global model.

A coin decides who is in: a pool holds members and as many others, from the test set; every attacked model is trained on
a random half of the pool, and the attack has to say which half. So whatever tells members from others apart beforehand
(another writer, an easier sample) tells nothing. Shadow models are trained on other halves.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from autoflip_secure.attacks.inference.decoding import CLEAR, LARGEST, NOISY, decode, sample_gradients
from autoflip_secure.attacks.inference.membership import lira, loss_threshold
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.records.audit import MembershipResult
from autoflip_secure.scenarios.audits.metrics import membership
from autoflip_secure.scenarios.audits.view import Effort, Views, as_sent, confidences, halves, job_of, with_clients
from autoflip_secure.seeds import Purpose, generator, numpy_generator
from autoflip_secure.training import Trainer

_APART = 7919  # seeds of shadow federations


def against_update(cell: Cell, trainer: Trainer, views: Views, victim: int, effort: Effort) -> list[MembershipResult]:
    """Membership in one client's data, from what it sends in the last rounds that it takes part in.

    All models are local trainings from the global weights of those rounds. What LiRA finds in several rounds adds up.
    Samples of the client that are not in the pool are known to the attacker and in every training. Empty where the test
    set has no sample of the client's classes.
    """
    problem = cell.problem
    own = problem.clients[victim].cpu()
    source = generator(cell.seed, Purpose.AUDIT, 0)
    x, y = _everything(cell)
    outside = _like(problem.y_train.cpu()[own], problem.y_test.cpu(), problem.num_classes, source)[: effort.most // 2]
    if len(outside) == 0:
        return []
    mixed = own[torch.randperm(len(own), generator=source)]
    pool = torch.cat([mixed[: len(outside)], outside + len(problem.y_train)]).to(x.device)
    rest = mixed[len(outside) :].to(x.device)
    targets = _coin_halves(effort.targets, len(pool), source)
    included = halves(effort.shadows, len(pool), source)
    losses, ratios, decoded = [], [], []
    for before, _ in views.sent[victim][-effort.rounds :]:
        job = job_of(cell, before, victim)
        jobs = []
        for number, half in enumerate(torch.cat([targets, included])):
            rows = torch.cat([pool[half.to(pool.device)], rest])
            jobs.append(replace(job, samples=rows, labels=y[rows], address=(*job.address, 1 + number)))
        trained = trainer.train(problem.module, problem.layout, x, jobs, cell.protocol.training).updates
        sent = as_sent(cell, before, trained, 5)
        phi = confidences(cell, before.weights + sent, x[pool], y[pool]).cpu()
        losses.append(_known(loss_threshold(phi[: effort.targets])))
        ratios.append(_ratios(phi, included, effort))
        gradients = gradients_of(cell, before, job, x[pool], y[pool])
        if gradients is not None:
            found = decode(sent, gradients, ridge_of(cell, job)).cpu()
            decoded.append(_ratios(found, included, effort))
    rng, view = numpy_generator(cell.seed, Purpose.AUDIT, 1), f"updates of client {victim}"
    scores = {"loss threshold": losses[-1], "LiRA": sum(ratios, torch.zeros(()))}
    if decoded:
        scores["LiRA on gradients"] = sum(decoded, torch.zeros(()))
    return [membership(name, view, targets.flatten(), score.flatten(), rng) for name, score in scores.items()]


def gradients_of(cell: Cell, before: ServerState, job: ClientJob, x: Tensor, y: Tensor) -> Tensor | None:
    """Of each sample at the weights before the round, as DP-SGD would clip them; None where they are too many."""
    if len(x) * cell.problem.layout.size > LARGEST:
        return None
    clip = None if job.private is None else job.private.clip
    return sample_gradients(cell.problem.module, cell.problem.layout, before.weights, before.mask, x, y, clip)


def ridge_of(cell: Cell, job: ClientJob) -> float:
    """By whether what the server sees has noise in it."""
    noisy = job.private is not None or cell.protocol.visibility.noise == "distributed"
    return NOISY if noisy else CLEAR


def _coin_halves(count: int, samples: int, source: torch.Generator) -> Tensor:
    """Random halves, each on its own: complements among them would tell about each other."""
    ranks = torch.rand(count, samples, generator=source).argsort(1).argsort(1)
    return ranks < samples // 2


def _ratios(values: Tensor, included: Tensor, effort: Effort) -> Tensor:
    """LiRA of each attacked model (they come first), from the shadow models."""
    shadows = values[effort.targets :]
    return _lira_of_each(values[: effort.targets], shadows, included)


def _lira_of_each(attacked: Tensor, shadows: Tensor, included: Tensor) -> Tensor:
    """LiRA of each attacked model; shadow models whose training diverged are left out, attacked ones tell nothing."""
    usable = shadows.isfinite().all(1)
    return torch.stack([_known(lira(row, shadows[usable], included[usable])) for row in attacked])


def _known(scores: Tensor) -> Tensor:
    """Scores; those that are not finite, because a training diverged, say neither "in" nor "out"."""
    usable = scores.isfinite()
    return torch.where(usable, scores, scores[usable].median() if bool(usable.any()) else 0.0)


def _everything(cell: Cell) -> tuple[Tensor, Tensor]:
    """Training samples, then test samples."""
    problem = cell.problem
    return torch.cat([problem.x_train, problem.x_test]), torch.cat([problem.y_train, problem.y_test])


def _like(labels: Tensor, others: Tensor, classes: int, source: torch.Generator) -> Tensor:
    """As many of ``others`` as there are labels (or can be had), in the same proportions: else the class would tell."""
    share = torch.bincount(labels, minlength=classes).double()
    weight = share[others] / torch.bincount(others, minlength=classes).clamp_min(1)[others]
    count = min(len(labels), int((weight > 0).sum()))
    if count == 0:
        return torch.zeros(0, dtype=torch.long)
    return torch.multinomial(weight, count, generator=source)


class _Finals(Watcher):
    """Keeps the last global weights of every cell."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        """Keep them."""
        if after.round == cell.protocol.rounds:
            self.weights[cell.key] = after.weights


def against_model(cell: Cell, trainer: Trainer, effort: Effort) -> list[MembershipResult]:
    """Membership in anybody's data, from the final global model; every federation deals a pool anew.

    Empty where a client would have too few samples to train as the real ones do.
    """
    problem, source = cell.problem, generator(cell.seed, Purpose.AUDIT, 2)
    own = torch.cat([rows.cpu() for rows in problem.clients])
    count = min(len(own), len(problem.y_test), effort.most)
    inside = own[torch.randperm(len(own), generator=source)[:count]]
    outside = torch.randperm(len(problem.y_test), generator=source)[:count] + len(problem.y_train)
    x, y = _everything(cell)
    pool = torch.cat([inside, outside])
    targets = _coin_halves(effort.models, 2 * count, source)
    included = halves(effort.federations, 2 * count, source)
    cells = _federations(cell, x, y, own, pool, torch.cat([targets, included]), source)
    if not cells:
        return []
    finals, at = _Finals(), pool.to(x.device)
    watch_cells(cells, trainer, finals)
    phi = confidences(cell, torch.stack([finals.weights[one.key] for one in cells]), x[at], y[at]).cpu()
    attacked, shadows = phi[: effort.models], phi[effort.models :]
    rng, view = numpy_generator(cell.seed, Purpose.AUDIT, 3), "final global model"
    ratios = _lira_of_each(attacked, shadows, included)
    return [
        membership("loss threshold", view, targets.flatten(), _known(loss_threshold(attacked)).flatten(), rng),
        membership("LiRA", view, targets.flatten(), ratios.flatten(), rng),
    ]


def _federations(
    cell: Cell, x: Tensor, y: Tensor, own: Tensor, pool: Tensor, included: Tensor, source: torch.Generator
) -> list[Cell]:
    """One federation per half of the pool; members stay with their client, others go where their class is."""
    problem = cell.problem
    home = torch.randint(0, len(problem.clients), (len(y),), generator=source)
    for client, rows in enumerate(problem.clients):
        home[rows.cpu()] = client
    labels, theirs = y.cpu(), y.cpu()[own]
    for label in range(problem.num_classes):  # others go where their class is at home
        guests, hosts = (labels == label) & (torch.arange(len(y)) >= len(problem.y_train)), own[theirs == label]
        if len(hosts):
            home[guests] = home[hosts[torch.randint(0, len(hosts), (int(guests.sum()),), generator=source)]]
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
    fewest = cell.protocol.training.batch_size if cell.protocol.privacy.works_on_samples else 1
    weakest = min(len(rows) for one in cells for rows in one.problem.clients)
    return cells if weakest >= fewest else []
