r"""Sample level, as sharp as a server can look: samples whose gradients are canaries.

The guarantee holds for any model and any data, so here a client trains a linear model on vectors with one entry: a
canary's gradient is one direction of its own, as long as the clip norm, and no weight moves far enough to change it
(Nasr et al. 2021; the Dirac canaries of Steinke, Nasr and Jagielski 2023). Batches, clipping, noise and every release
of the scenario (exploration, each round that the client takes part in) are the trainer's own; the server starts each
training at zero, which it may, and reads the direction in what it is sent. Over T steps that is about

.. math:: N(K, \sigma^2 T), \qquad K \sim \mathrm{Bin}(T, q) \text{ if in}, \; K = 0 \text{ if out}

Gradients of the scenario's own model are left out; images among real samples are canaries for these
(:mod:`~autoflip_secure.scenarios.audits.samples`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor, nn

from autoflip_secure.attacks.inference.canaries import coins
from autoflip_secure.defenses.privacy.accountants import Count, Mechanism
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import ClientJob, PrivateSteps, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.audit import EmpiricalEpsilon
from autoflip_secure.scenarios.audits.claims import Claim, audited, claim, factor_for, most_exposed, scaled
from autoflip_secure.scenarios.audits.view import Attacked, Effort, judged
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.terminal.counting import count_of
from autoflip_secure.training import Trainer

LEAST_NOISE = 2.0
"""Of the calibrated audit, as a noise multiplier. The server sees sums of steps: with less noise in each step they tell
much less than the steps, which the ledger counts, and no attack comes near what is proven."""
_MOST = 200  # canaries of one client in one run; more hardly tell more
_LONG = 100.0  # length of a canary, in clip norms: the clip acts on every one
_APART = 15_485_863  # seeds of the runs; those of one audit follow each other


@dataclass(frozen=True)
class _Target:
    """An honest client that is attacked, and its trainings."""

    client: int
    samples: int
    steps: PrivateSteps
    rounds: tuple[int, ...]  # 0: exploration


def gradient_epsilons(cell: Cell, trainer: Trainer, effort: Effort, confidence: float) -> list[EmpiricalEpsilon]:
    """Bounds for the client that pays most, each with ``confidence``, beside what is proven for it.

    Of everything that it sends, with the scenario's noise and with calibrated noise; and of the exploration alone, with
    noise that is chosen by a count of our own, for the ledger may have forgotten it. Empty: nobody has a whole batch,
    or nothing is proven.
    """
    target = _target(cell)
    if target is None:
        return []
    schedule = audited(cell)
    whole = claim(schedule, "server", target.client)
    if whole is None or whole.count is None:
        return []
    assert schedule.delta is not None
    factor = max(factor_for(whole.count, schedule.delta), LEAST_NOISE / target.steps.noise_multiplier)
    plans: list[tuple[_Target, str | None, float]] = [(target, None, 1.0), (target, None, factor)]
    if 0 in target.rounds:
        explored = replace(target, rounds=(0,))
        plans.append((explored, "exploration", factor_for(_own_count(cell, explored), schedule.delta)))
    found = []
    for number, (attacked, only, times) in enumerate(plans):
        noisy = scaled(cell, times)
        steps = noisy.private_steps(target.client, target.rounds[0])
        assert steps is not None
        claimed = claim(audited(noisy, schedule.delta), "server", target.client, only)
        assert claimed is not None
        found.append(
            _attacked(noisy, trainer, replace(attacked, steps=steps), claimed, number, times, effort, confidence)
        )
    return found


def bounds_of(cell: Cell) -> int:
    """How many bounds :func:`gradient_epsilons` gives, at most."""
    return 2 + cell.protocol.explores


def _attacked(
    cell: Cell,
    trainer: Trainer,
    target: _Target,
    claimed: Claim,
    number: int,
    factor: float,
    effort: Effort,
    confidence: float,
) -> EmpiricalEpsilon:
    """One bound; ``cell`` and ``claimed`` have their noise times ``factor`` already."""
    canaries, runs = min(target.samples, _MOST), effort.gradient_runs
    thrown = [coins(canaries, generator(cell.seed, Purpose.CANARIES, 4, number, run)) for run in range(runs)]
    scores = _seen(cell, trainer, target, thrown, _APART + number * runs)
    alone = target.rounds == (0,)
    what = "the exploration" if alone else "everything"
    what = f"canary gradients at client {target.client}, {what} that it sent in {count_of(runs, 'run')}"
    attacked = Attacked("sample", "server", what, "exploration" if alone else "everything", factor)
    return judged(attacked, claimed, scores, torch.stack(thrown), confidence)


def _target(cell: Cell) -> _Target | None:
    """The client that pays most, of those that release something and have a whole batch."""
    protocol = cell.protocol
    rounds: dict[int, list[int]] = {}
    for client in cell.explorers.tolist():
        rounds.setdefault(client, []).append(0)
    for number in range(1, protocol.rounds + 1):
        for client in cell.cohort(number).tolist():
            rounds.setdefault(client, []).append(number)
    schedule = audited(cell, 1.0)
    usable = [k for k in rounds if k in schedule.honest and schedule.samples[k] >= schedule.batch_size]
    if not usable:
        return None
    client = most_exposed(cell, sorted(usable))
    steps = cell.private_steps(client, rounds[client][0])
    assert steps is not None
    return _Target(client, schedule.samples[client], steps, tuple(rounds[client]))


def _seen(cell: Cell, trainer: Trainer, target: _Target, thrown: Sequence[Tensor], apart: int) -> Tensor:
    """How often every canary of every run seems to be in a batch (runs, canaries): the more, the more likely it is in.

    The trainings of one round go to the trainer together: those of all rounds would not fit where samples are many.

    Args:
        thrown: which canaries are in, for each run; in place of those that are out the client has blank samples.
        apart: what is added to the cell's seed for the first run.
    """
    width, home, protocol = len(thrown[0]), cell.problem.initial.device, cell.protocol
    board = nn.Linear(width, 2, bias=False)
    layout, clip = Layout.of(board), target.steps.clip
    start = torch.zeros(layout.size, device=home)
    x = _LONG * clip * torch.cat([torch.eye(width), torch.zeros(1, width)]).to(home)
    labels = torch.zeros(target.samples, dtype=torch.long, device=home)
    rows = []
    for included in thrown:
        own = torch.full((target.samples,), width)
        own[:width] = torch.where(included, torch.arange(width), width)
        rows.append(own.to(home))
    runs = [replace(cell, seed=cell.seed + apart + run) for run in range(len(thrown))]
    seen = torch.zeros(len(thrown), width, dtype=torch.float64)
    for number in target.rounds:
        jobs = [
            ClientJob(start, own, labels, run.seed, (number, target.client), None, target.steps, run.draws)
            for run, own in zip(runs, rows, strict=True)
        ]
        schedule = _quiet(protocol.training, (protocol.training if number else protocol.exploration).epochs, clip)
        updates = trainer.train(board, layout, x, jobs, schedule).updates.cpu().double().view(-1, 2, width)
        seen += (updates[:, 0] - updates[:, 1]) * schedule.batch_size / (2**0.5 * schedule.lr * clip)
    return seen


def _quiet(training: TrainingSchedule, epochs: int, clip: float) -> TrainingSchedule:
    """As many steps, of plain SGD, since what an optimiser makes of noised gradients is post-processing; so small that
    no gradient changes."""
    return TrainingSchedule(lr=min(1e6, 1e-4 / (_LONG * clip**2)), batch_size=training.batch_size, epochs=epochs)


def _own_count(cell: Cell, target: _Target) -> Count:
    """What the target's trainings release, counted here and not by the ledger."""
    protocol = cell.protocol
    rate = protocol.training.batch_size / target.samples
    epochs = sum((protocol.training if number else protocol.exploration).epochs for number in target.rounds)
    mechanism = Mechanism(target.steps.noise_multiplier, rate, "poisson" if rate < 1 else "none")
    return ((mechanism, epochs * ceil(target.samples / protocol.training.batch_size)),)
