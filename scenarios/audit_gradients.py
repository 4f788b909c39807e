r"""Sample level, as sharp as a server can look: samples whose gradients are canaries.

The guarantee holds for any model and any data, so here a client trains a linear model on vectors with one entry: a
canary's gradient is one direction of its own, as long as the clip norm, and no weight moves far enough to change it
(Nasr et al. 2021; the Dirac canaries of Steinke, Nasr and Jagielski 2023). Batches, clipping, noise and every release
of the scenario (exploration, each round that the client takes part in) are the trainer's own; the server starts each
training at zero, which it may, and reads the direction in what it is sent. Over T steps that is about

.. math:: N(K, \sigma^2 T), \qquad K \sim \mathrm{Bin}(T, q) \text{ if in}, \; K = 0 \text{ if out}

Gradients of the scenario's own model are left out; images among real samples are canaries for these
(:mod:`~scenarios.audit_samples`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from attacks.canaries import coins
from autoflip_secure.audit_record import EmpiricalEpsilon
from autoflip_secure.cell import Cell
from autoflip_secure.interfaces import ClientJob, PrivateSteps, Schedule
from autoflip_secure.parameters import Layout
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer
from scenarios.audit_samples import weakest
from scenarios.audit_view import Effort, by_one_run

SHARE = 0.05
"""Of the canaries that are guessed: near the best for 5,000 to 80,000 of them and epsilon 1 to 5 (simulated)."""
_MOST = 400  # canaries of one client in one run
_LONG = 100.0  # length of a canary, in clip norms: the clip acts on every one
_APART = 15_485_863  # seeds of the runs


@dataclass(frozen=True)
class _Target:
    """An honest client that is attacked, and its trainings."""

    client: int
    samples: int
    steps: PrivateSteps
    rounds: tuple[int, ...]  # 0: exploration

    def canaries(self, cell: Cell) -> int:
        """As many as it has samples; with every coin against them there still is a whole batch."""
        return min(self.samples, _MOST, 2 * (self.samples - cell.protocol.training.batch_size))

    def exposed(self, cell: Cell) -> float:
        """Steps times squared rate over squared noise: what epsilon grows with."""
        protocol = cell.protocol
        rounds = sum(number > 0 for number in self.rounds) * protocol.training.epochs
        epochs = rounds + (0 in self.rounds) * protocol.exploration.epochs
        return epochs * protocol.training.batch_size / (self.samples * max(self.steps.noise_multiplier, 1e-6) ** 2)


def gradient_epsilon(cell: Cell, trainer: Trainer, effort: Effort, confidence: float) -> EmpiricalEpsilon | None:
    """A lower bound beside what is proven for the client that pays most; None: nobody has samples beside a batch.

    Each canary is in by a coin, beside as many samples without a gradient as keep the client's number about right.
    """
    targets = _targets(cell)
    if not targets:
        return None
    target = max(targets, key=lambda one: one.exposed(cell))
    canaries = target.canaries(cell)
    # one training after the other takes ten times as long
    wanted = effort.gradients if trainer.kind == "stacked" else effort.gradients // 10
    others, runs = target.samples - canaries // 2, ceil(wanted / canaries)
    thrown = [coins(canaries, generator(cell.seed, Purpose.CANARIES, 4, run)) for run in range(runs)]
    seen, steps = _seen(cell, trainer, target, thrown, others)
    rate = cell.protocol.training.batch_size / target.samples
    scores = _evidence(seen, steps, rate, target.steps.noise_multiplier).flatten()
    what = f"canary gradients at client {target.client}, everything that it sent in {runs} run{'s'[: runs > 1]}"
    proven = weakest(cell, target.client, canaries, others)
    return by_one_run("sample", "server", what, scores, torch.cat(thrown), proven, confidence, SHARE)


def _targets(cell: Cell) -> list[_Target]:
    """Honest clients that release something and have samples beside a batch."""
    protocol = cell.protocol
    rounds: dict[int, list[int]] = {}
    if protocol.explores and not protocol.secret_exploration:
        explorers = protocol.exploration.explorers or len(cell.problem.clients)
        for client in cell.draw(Purpose.EXPLORERS, explorers).tolist():
            rounds.setdefault(client, []).append(0)
    for number in range(1, protocol.rounds + 1):
        for client in cell.cohort(number).tolist():
            rounds.setdefault(client, []).append(number)
    found = []
    for client, taken in sorted(rounds.items()):
        own, steps = len(cell.problem.clients[client]), cell.private_steps(client, taken[0])
        if own > protocol.training.batch_size and steps is not None and not bool(cell.bad_clients[client]):
            found.append(_Target(client, own, steps, tuple(taken)))
    return found


def _seen(
    cell: Cell, trainer: Trainer, target: _Target, thrown: Sequence[Tensor], others: int
) -> tuple[Tensor, Tensor]:
    """How often every canary of every run seems to be in a batch (runs, canaries), and steps (runs, 1).

    The trainings of one round go to the trainer together: those of all rounds would not fit where samples are many.

    Args:
        cell: what is audited.
        trainer: of its model.
        target: who is attacked.
        thrown: which canaries are in, for each run.
        others: samples without a gradient.
    """
    width, home, protocol = len(thrown[0]), cell.problem.initial.device, cell.protocol
    board = nn.Linear(width, 2, bias=False)
    layout, clip = Layout.of(board), target.steps.clip
    start = torch.zeros(layout.size, device=home)
    x = _LONG * clip * torch.cat([torch.eye(width), torch.zeros(1, width)]).to(home)
    jobs: dict[int, list[ClientJob]] = {number: [] for number in target.rounds}
    for run, included in enumerate(thrown):
        rows = torch.cat([included.nonzero().squeeze(1), torch.full((others,), width)]).to(home)
        labels, seed = torch.zeros_like(rows), cell.seed + _APART * (1 + run)
        for number, some in jobs.items():
            some.append(ClientJob(start, rows, labels, seed, (number, target.client), None, target.steps))
    seen, steps = torch.zeros(len(thrown), width, dtype=torch.float64), torch.zeros(len(thrown), 1)
    for number, some in jobs.items():
        schedule = _quiet(protocol.training, (protocol.training if number else protocol.exploration).epochs, clip)
        updates = trainer.train(board, layout, x, some, schedule).updates.cpu().double()
        once = 2**0.5 * schedule.lr * clip / schedule.batch_size  # what one canary adds in one batch
        for run, (job, row) in enumerate(zip(some, updates.view(-1, 2, width), strict=True)):
            seen[run] += (row[0] - row[1]) / once
            steps[run] += schedule.epochs * ceil(len(job.samples) / schedule.batch_size)
    return seen, steps


def _quiet(training: Schedule, epochs: int, clip: float) -> Schedule:
    """As many steps, of plain SGD, since what an optimiser makes of noised gradients is post-processing; so small that
    no gradient changes."""
    return Schedule(lr=min(1e6, 1e-4 / (_LONG * clip**2)), batch_size=training.batch_size, epochs=epochs)


def _evidence(seen: Tensor, steps: Tensor, rate: float, noise_multiplier: float) -> Tensor:
    """Log-likelihood ratio of in against out, with the binomial as a normal."""
    noise = max(noise_multiplier, 1e-3) ** 2 * steps
    mean, variance = steps * rate, noise + steps * rate * (1 - rate)
    return ((noise / variance).log() + seen.square() / noise - (seen - mean).square() / variance) / 2
