"""The audit of one scenario: its ledger, and what attackers really achieve on one of its cells.

The attacked client is the honest one that took part last. Non-members are test samples: same source, never trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.canaries import along, coins, directions, noise_images
from attacks.empirical_epsilon import clopper_pearson, guess, one_run
from attacks.label_inference import class_scores
from attacks.membership import lira, logit_confidence, loss_threshold
from autoflip_secure.audit_record import AuditRecord, EmpiricalEpsilon, LabelInference, MembershipResult
from autoflip_secure.cell import Cell
from autoflip_secure.clients import client_jobs
from autoflip_secure.errors import InputError
from autoflip_secure.federation import Watcher, run_cells
from autoflip_secure.interfaces import ClientJob, NoPrivacy, PrivacyView
from autoflip_secure.recording import versions
from autoflip_secure.seeds import Purpose, generator, numpy_generator
from autoflip_secure.server import ServerState
from autoflip_secure.training import Trainer
from autoflip_secure.training.evaluation import class_outputs
from defenses.accountants import Mechanism, prv_epsilon, rdp_epsilon
from scenarios.judging import auc_with_interval, mean_with_interval, membership
from scenarios.privacy import ledger

CONFIDENCE = 0.95
DELTA = 1e-5  # of empirical bounds and of what is proven beside them: the one-run bound needs it small


@dataclass(frozen=True)
class Effort:
    """How hard attackers try."""

    shadows: int = 32  # shadow trainings of the attacked client
    federations: int = 16  # shadow federations
    runs: int = 400  # trainings with and without one canary
    samples: int = 200  # canaries beside one client's samples
    canaries: int = 400  # client-level canaries in one round
    most: int = 400  # members, and others, that the global model is asked about


class _Views(Watcher):
    """Keeps what the server sees of the exploration, and of one client's last participation."""

    def __init__(self) -> None:
        self.explored: dict[str, Tensor] = {}
        self.last: dict[int, tuple[ServerState, Tensor]] = {}

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        self.explored[cell.key] = sent

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        for row, client in enumerate(clients.tolist()):
            self.last[client] = (before, sent[row])
        self.final = after


def audit(
    cell: Cell, trainer: Trainer, scenario: str, effort: Effort | None = None, tell: Callable[[str], None] = print
) -> AuditRecord:
    """Run the cell, attack it, and hold every attack against what is proven.

    Args:
        cell: with its noise multipliers.
        trainer: of its model.
        scenario: its name.
        effort: how hard attackers try.
        tell: hears what is going on.
    """
    effort = effort or Effort()
    views = _Views()
    tell("training the attacked model")
    (record,) = run_cells([cell], trainer, watch=views)
    proven = ledger(cell)
    victim = _victim(cell, views)
    tell(f"membership inference: {effort.shadows} shadow trainings, {effort.federations} shadow federations")
    found = _against_update(cell, trainer, views, victim, effort)
    found += _against_model(cell, trainer, views, effort)
    tell("empirical epsilon: canaries")
    empirical = _sample_level(cell, trainer, views, victim, effort)
    if cell.protocol.client_level is not None:
        empirical.append(_client_level(cell, effort))
    tell("label inference from the exploration")
    labels = _labels(cell, trainer, views)
    notes = [
        f"attacked: client {victim}, honest, with {len(cell.problem.clients[victim])} samples",
        "the attacker knows the architecture, the schedule and the global models, and data of the same kind",
    ]
    if not labels:
        notes.append("label inference: the exploration is not run, or every client owns every class")
    return AuditRecord(
        scenario=scenario,
        cell=cell.key,
        algorithm=cell.algorithm,
        seed=cell.seed,
        versions=versions(),
        final_accuracy=record.final_accuracy,
        privacy=proven,
        membership=found,
        empirical=empirical,
        labels=labels,
        notes=notes,
    )


def _victim(cell: Cell, views: _Views) -> int:
    honest = [k for k in views.last if not bool(cell.bad_clients[k]) and len(cell.problem.clients[k]) >= 8]
    if not honest:
        raise InputError("audit: no honest client with at least 8 samples took part; give more rounds or fewer clients")
    return max(honest, key=lambda k: (views.last[k][0].round, k))


def _job(cell: Cell, before: ServerState, client: int) -> ClientJob:
    """The client's local training in the round after ``before``."""
    return client_jobs(cell, before.weights, before.mask, torch.tensor([client]), before.round + 1)[0]


def _phi(cell: Cell, vectors: Tensor, samples: Tensor, labels: Tensor) -> Tensor:
    """Logit confidence of each model in each label, (models, samples)."""
    scores = class_outputs(cell.problem.module, cell.problem.layout, vectors, samples)
    return logit_confidence(scores, labels)


def _against_update(cell: Cell, trainer: Trainer, views: _Views, victim: int, effort: Effort) -> list[MembershipResult]:
    """Membership in one client's data, from its update in one round."""
    problem, (before, update) = cell.problem, views.last[victim]
    job = _job(cell, before, victim)
    source = generator(cell.seed, Purpose.AUDIT, 0)
    # others of the client's own classes, in its proportions as far as they go: else the class would tell
    share = torch.bincount(job.labels.cpu(), minlength=problem.num_classes).double()
    weight = (
        share[problem.y_test.cpu()]
        / torch.bincount(problem.y_test.cpu(), minlength=problem.num_classes).clamp_min(1)[problem.y_test.cpu()]
    )
    count = min(len(job.samples), int((weight > 0).sum()))
    outside = torch.multinomial(weight, count, generator=source)
    inside = job.samples[torch.randperm(len(job.samples), generator=source)[:count]]
    x = torch.cat([problem.x_train, problem.x_test])
    y = torch.cat([problem.y_train, problem.y_test])
    pool = torch.cat([inside, outside + len(problem.y_train)])
    truth = torch.arange(2 * count) < count
    included = _halves(effort.shadows, 2 * count, source)
    jobs = [
        replace(job, samples=pool[half], labels=y[pool[half]], address=(*job.address, 1 + number))
        for number, half in enumerate(included)
    ]
    trained = trainer.train(problem.module, problem.layout, x, jobs, cell.protocol.training)
    shadows = _phi(cell, before.weights + trained.updates, x[pool], y[pool])
    phi = _phi(cell, (before.weights + update)[None], x[pool], y[pool])[0]
    rng, view = numpy_generator(cell.seed, Purpose.AUDIT, 1), f"update of client {victim}"
    return [
        membership("loss threshold", view, truth, loss_threshold(phi), rng),
        membership("LiRA", view, truth, lira(phi, shadows, included), rng),
    ]


def _halves(rows: int, samples: int, source: torch.Generator) -> Tensor:
    """Each row a random half; rows come in pairs of complements, so that every sample is in half of them."""
    found = []
    for _ in range(max(1, rows // 2)):
        half = torch.zeros(samples, dtype=torch.bool)
        half[torch.randperm(samples, generator=source)[: samples // 2]] = True
        found += [half, ~half]
    return torch.stack(found)


def _against_model(cell: Cell, trainer: Trainer, views: _Views, effort: Effort) -> list[MembershipResult]:
    """Membership in anybody's data, from the final global model; shadow federations deal a pool anew."""
    problem = cell.problem
    source = generator(cell.seed, Purpose.AUDIT, 2)
    own = torch.cat([rows.cpu() for rows in problem.clients])
    count = min(len(own), len(problem.y_test), effort.most)
    inside = own[torch.randperm(len(own), generator=source)[:count]]
    outside = torch.randperm(len(problem.y_test), generator=source)[:count]
    x = torch.cat([problem.x_train, problem.x_test])
    y = torch.cat([problem.y_train, problem.y_test])
    pool = torch.cat([inside, outside + len(problem.y_train)])
    truth = torch.arange(2 * count) < count
    included = _halves(effort.federations, 2 * count, source)
    home = torch.randint(0, len(problem.clients), (len(y),), generator=source)
    for client, rows in enumerate(problem.clients):
        home[rows.cpu()] = client
    kept = torch.zeros(len(y), dtype=torch.bool)
    kept[own] = True
    kept[pool] = False
    finals: list[Tensor] = []
    cells = []
    for number, half in enumerate(included):
        used = kept.clone()
        used[pool[half]] = True
        clients = tuple((used & (home == k)).nonzero().squeeze(1) for k in range(len(problem.clients)))
        shadow = replace(problem, x_train=x, y_train=y, clients=clients)
        cells.append(replace(cell, key=f"{cell.key}-{number}", seed=cell.seed + 7919 * (number + 1), problem=shadow))
    weakest = min(len(rows) for one in cells for rows in one.problem.clients)
    if weakest < (cell.protocol.training.batch_size if cell.protocol.mechanism is not None else 1):
        cells = []  # a shadow client would have too few samples to train as the real ones do

    class Last(Watcher):
        def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
            if after.round == cell.protocol.rounds:
                finals.append(after.weights)

    rng, view = numpy_generator(cell.seed, Purpose.AUDIT, 3), "final global model"
    phi = _phi(cell, views.final.weights[None], x[pool], y[pool])[0]
    found = [membership("loss threshold", view, truth, loss_threshold(phi), rng)]
    if cells:
        run_cells(cells, trainer, watch=Last())
        shadows = _phi(cell, torch.stack(finals), x[pool], y[pool])
        found.append(membership("LiRA", view, truth, lira(phi, shadows, included), rng))
    return found


def _sample_level(cell: Cell, trainer: Trainer, views: _Views, victim: int, effort: Effort) -> list[EmpiricalEpsilon]:
    """Canaries beside one client's samples, scored by how much one local training lowers their loss."""
    problem, before = cell.problem, views.last[victim][0]
    job = _job(cell, before, victim)
    source = generator(cell.seed, Purpose.CANARIES, 0)
    images, labels = noise_images(effort.samples, problem.x_train, problem.num_classes, source)
    x = torch.cat([problem.x_train, images])
    rows = torch.arange(effort.samples) + len(problem.x_train)
    start = _phi(cell, before.weights[None], images, labels)

    def lowered(jobs: list[ClientJob]) -> Tensor:
        """By how much each training raised the confidence in each canary, (jobs, canaries)."""
        updates = trainer.train(problem.module, problem.layout, x, jobs, cell.protocol.training).updates
        return _phi(cell, before.weights + updates, images, labels) - start

    def beside(included: Tensor, *address: int) -> ClientJob:
        samples = torch.cat([job.samples.cpu(), rows[included]])
        own = torch.cat([job.labels, labels[included]])
        return replace(job, samples=samples, labels=own, address=(*job.address, *address))

    included = coins(effort.samples, source)
    one = beside(included, 1)
    guesses, right = guess(lowered([one])[0], included, max(1, effort.samples // 4))
    what = f"noise beside the samples of client {victim}, one local training ({right} of {guesses} guesses right)"
    lower = one_run(effort.samples, guesses, right, DELTA, CONFIDENCE)
    found = [_bound("one run", "sample", what, effort.samples, lower, _proven_steps(one, cell))]
    half, nobody = effort.runs // 2, torch.zeros(effort.samples, dtype=torch.bool)
    first = nobody.clone()
    first[0] = True
    jobs = [beside(first, 2, run) for run in range(half)] + [beside(nobody, 3, run) for run in range(half)]
    scores = lowered(jobs)[:, 0]
    what = f"one image of noise beside the samples of client {victim}, one local training"
    proven = _proven_steps(beside(nobody, 0), cell)
    found.append(_bound("Clopper-Pearson", "sample", what, 2 * half, _over_runs(scores[:half], scores[half:]), proven))
    return found


def _over_runs(inside: Tensor, outside: Tensor) -> float:
    """The threshold is chosen on one half of the runs and judged on the other."""
    half, best = len(inside) // 2, (0.0, float("inf"))
    for threshold in torch.cat([inside[:half], outside[:half]]).tolist():
        hits, alarms = int((inside[:half] >= threshold).sum()), int((outside[:half] >= threshold).sum())
        best = max(best, (clopper_pearson(hits, half, alarms, half, DELTA, CONFIDENCE), threshold))
    hits, alarms = int((inside[half:] >= best[1]).sum()), int((outside[half:] >= best[1]).sum())
    return clopper_pearson(hits, len(inside) - half, alarms, len(outside) - half, DELTA, CONFIDENCE)


def _proven_steps(job: ClientJob, cell: Cell) -> float | None:
    """Epsilon at :data:`DELTA` of one local training."""
    if job.private is None or job.private.noise_multiplier == 0:
        return None
    schedule, n = cell.protocol.training, len(job.samples)
    steps = schedule.epochs * -(-n // schedule.batch_size)
    return _tightest(((Mechanism(job.private.noise_multiplier, schedule.batch_size / n, "poisson"), steps),), DELTA)


def _tightest(count: tuple[tuple[Mechanism, int], ...], delta: float) -> float | None:
    return min((e for e in (rdp_epsilon(count, delta), prv_epsilon(count, delta)) if e is not None), default=None)


def _client_level(cell: Cell, effort: Effort) -> EmpiricalEpsilon:
    """Canary clients with random updates of the clip norm's length, in or out by a coin, in one round's sum."""
    mechanism = cell.protocol.client_level
    assert mechanism is not None
    params = cell.problem.layout.size
    source = generator(cell.seed, Purpose.CANARIES, 1)
    state = mechanism.start()
    canaries = directions(effort.canaries, params, 100.0 * state.clip, source)  # far too long: the clip must act
    included = coins(effort.canaries, source)
    rows = canaries[included]
    view = PrivacyView(
        round=1,
        honest=torch.ones(len(rows), dtype=torch.bool),
        active=torch.ones(params, dtype=torch.bool),
        expected=float(len(rows)),
        noise_multiplier=cell.noise_multipliers[0],
        generators=[generator(cell.seed, Purpose.CANARIES, 2, k) for k in range(len(rows))],
        server=generator(cell.seed, Purpose.CANARIES, 3),
    )
    sent = mechanism.send(state, rows, view)
    step, _ = mechanism.publish(state, sent.mean(0), rows, view)
    guesses, right = guess(along(step, canaries), included, max(1, effort.canaries // 4))
    noise = cell.noise_multipliers[0]
    proven = None if noise == 0 else _tightest(((Mechanism(noise, 1.0, "none"), 1),), DELTA)
    lower = one_run(effort.canaries, guesses, right, DELTA, CONFIDENCE)
    what = f"random updates of canary clients, the published step of one round ({right} of {guesses} guesses right)"
    return _bound("one run", "client", what, effort.canaries, lower, proven)


def _bound(method: str, unit: str, what: str, trials: int, lower: float, proven: float | None) -> EmpiricalEpsilon:
    return EmpiricalEpsilon.model_validate(
        {
            "method": method, "unit": unit, "what": what, "trials": trials, "delta": DELTA, "confidence": CONFIDENCE,
            "lower": lower, "proven": proven, "violated": proven is not None and lower > proven,
        }
    )  # fmt: skip


def _labels(cell: Cell, trainer: Trainer, views: _Views) -> list[LabelInference]:
    """Which classes a client owns, from plain deviations, from those that are sent, and from their sum."""
    problem = cell.problem
    sent = views.explored.get(cell.key)
    if sent is None or len(sent) != len(problem.clients):
        return []
    owned = torch.stack(
        [torch.bincount(problem.y_train[rows], minlength=problem.num_classes) > 0 for rows in problem.clients]
    )
    if bool(owned.all()):
        return []
    bare = replace(cell, protocol=cell.protocol.model_copy(update={"privacy": NoPrivacy(), "rounds": 1}))
    seen = _Views()
    if cell.protocol.mechanism is not None:
        run_cells([bare], trainer, watch=seen)
    plain = seen.explored.get(cell.key, sent)
    rng = numpy_generator(cell.seed, Purpose.AUDIT, 4)
    looks: list[tuple[str, Tensor]] = [("plain", plain)]
    if cell.protocol.mechanism is not None:
        looks.append(("as sent", sent))
    looks.append(("securely summed", sent.sum(0, keepdim=True).expand(len(sent), -1)))
    found = []
    for name, rows in looks:
        scores = class_scores(rows, problem.layout)
        right = []
        for row, mine in zip(scores, owned, strict=True):
            count = int(mine.sum())
            right.append(float(mine[row.argsort(descending=True)[:count]].float().mean()))
        auc = auc_with_interval(owned.flatten().numpy(), scores.flatten().cpu().numpy(), rng)
        chance = float((owned.float().mean(1)).mean())
        found.append(
            LabelInference.model_validate(
                {
                    "view": name, "clients": len(rows), "accuracy": mean_with_interval(right), "chance": chance,
                    "auc": auc.value,
                }
            )
        )  # fmt: skip
    return found
