"""What all parts of an audit share: how hard attackers try, what the server saw, and how a bound is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from attacks.empirical_epsilon import guess, one_run
from attacks.membership import logit_confidence
from autoflip_secure.audit_record import EmpiricalEpsilon
from autoflip_secure.cell import Cell
from autoflip_secure.clients import client_jobs
from autoflip_secure.errors import InputError
from autoflip_secure.federation import Watcher
from autoflip_secure.interfaces import ClientJob, PrivacyView
from autoflip_secure.privacy_record import Observer
from autoflip_secure.seeds import Purpose, numpy_generator
from autoflip_secure.server import ServerState
from autoflip_secure.training.evaluation import class_outputs
from defenses.guarantees import guarantee
from defenses.privacy_ledger import schedule_of

CONFIDENCE = 0.95
"""That all lower bounds of one audit hold together; see :func:`each`."""
DELTA = 1e-5
"""Of empirical bounds and of what is proven beside them: the one-run bound pays 2 delta per canary."""
FEWEST = 8
"""Samples of a client that is worth attacking."""
GUESSED = 0.3
"""Share of the canaries that the one-run audit guesses, fixed beforehand; it abstains from the others. Near the best
share for 200 to 1,000 canaries that show by 0.5 to 3 standard deviations (simulated)."""


@dataclass(frozen=True)
class Effort:
    """How hard attackers try; the defaults take about ten seconds on digits."""

    targets: int = 8  # attacked trainings of one client
    shadows: int = 32  # shadow trainings of it
    rounds: int = 5  # rounds, the last that it took part in, from which its updates are attacked
    models: int = 4  # attacked federations
    federations: int = 16  # shadow federations
    runs: int = 400  # trainings with and without one canary
    samples: int = 200  # canaries beside one client's samples
    gradients: int = 20_000  # samples whose gradients are canaries
    client_runs: int = 100  # federations in which every honest client is a canary
    most: int = 400  # members, and others, that the global model is asked about


class Views(Watcher):
    """Keeps what the server sees: the exploration, and every participation of every client."""

    def __init__(self) -> None:
        self.explored: dict[str, tuple[Tensor, Tensor]] = {}
        self.sent: dict[int, list[tuple[ServerState, Tensor]]] = {}

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        """Keep the deviations."""
        self.explored[cell.key] = (clients, sent)

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        """Keep the rows, and the newest state."""
        for row, client in enumerate(clients.tolist()):
            self.sent.setdefault(client, []).append((before, sent[row].clone()))
        self.final = after


def in_the_open(cell: Cell) -> Cell:
    """The same run without parties: what they would hide, for attacks on what they leave and for comparison."""
    return replace(cell, protocol=cell.protocol.model_copy(update={"secure_sum": None}))


def victim_of(cell: Cell, views: Views) -> int:
    """The honest client that took part last.

    Raises:
        InputError: there is none with enough samples.
    """
    honest = [k for k in views.sent if not bool(cell.bad_clients[k]) and len(cell.problem.clients[k]) >= FEWEST]
    if not honest:
        raise InputError(
            f"audit: no honest client with at least {FEWEST} samples took part; give more rounds, a larger cohort or "
            "fewer clients"
        )
    return max(honest, key=lambda k: (views.sent[k][-1][0].round, k))


def job_of(cell: Cell, before: ServerState, client: int) -> ClientJob:
    """The client's local training in the round after ``before``."""
    return client_jobs(cell, before.weights, before.mask, torch.tensor([client]), before.round + 1)[0]


def as_sent(cell: Cell, before: ServerState, updates: Tensor, *address: int) -> Tensor:
    """Honest updates (rows, params) as they leave a client at client level: clipped, and noised where clients noise."""
    mechanism = cell.protocol.client_level
    if mechanism is None:
        return updates
    count = len(updates)
    view = PrivacyView(
        round=before.round + 1,
        honest=torch.ones(count, dtype=torch.bool, device=updates.device),
        active=before.mask & cell.problem.layout.trainable.to(before.mask.device),
        expected=float(cell.protocol.cohort),
        noise_multiplier=cell.noise_multipliers[0],
        generators=[numpy_generator(cell.seed, Purpose.AUDIT, *address, row) for row in range(count)],
        server=numpy_generator(cell.seed, Purpose.AUDIT, *address, count),
    )
    return mechanism.send(before.privacy, updates, view)


def confidences(cell: Cell, vectors: Tensor, samples: Tensor, labels: Tensor) -> Tensor:
    """Logit confidence of each model (models, params) in each label, (models, samples)."""
    return logit_confidence(class_outputs(cell.problem.module, cell.problem.layout, vectors, samples), labels)


def proven_epsilon(cell: Cell, observer: Observer, client: int | None, samples: int | None = None) -> float | None:
    """What the ledger proves at :data:`DELTA` for one client (None: for the one that pays most); None: nothing.

    With the noise multipliers that ``cell`` has: nothing is calibrated anew. ``samples``: that the client has, where
    that is not what the cell says.
    """
    if cell.protocol.mechanism is None:
        return None
    schedule = replace(schedule_of(cell), delta=DELTA)
    if samples is not None and client is not None:
        own = list(schedule.samples)
        own[client] = samples
        schedule = replace(schedule, samples=tuple(own), honest=(client,))
    found = guarantee(schedule, observer)
    if not found.proven:
        return None
    entries = [e for e in found.clients if client is None or e.client in (client, None)]
    values = [entry.epsilon for entry in entries]
    return None if not values or None in values else max(v for v in values if v is not None)


def each(bounds: int) -> float:
    """Confidence of each of so many lower bounds, so that all hold together with :data:`CONFIDENCE` (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, bounds)


def bound(
    method: Literal["one run", "Clopper-Pearson"],
    unit: Literal["sample", "client"],
    observer: Observer,
    what: str,
    trials: int,
    lower: float,
    proven: float | None,
    confidence: float,
) -> EmpiricalEpsilon:
    """Hold a lower bound against what is proven."""
    return EmpiricalEpsilon(
        method=method,
        unit=unit,
        observer=observer,
        what=what,
        trials=trials,
        delta=DELTA,
        confidence=confidence,
        lower=lower,
        proven=proven,
        violated=proven is not None and lower > proven,
    )


def by_one_run(
    unit: Literal["sample", "client"],
    observer: Observer,
    what: str,
    scores: Tensor,
    included: Tensor,
    proven: float | None,
    confidence: float,
    share: float = GUESSED,
) -> EmpiricalEpsilon:
    """Bound from many coins of one mechanism (Steinke, Nasr and Jagielski 2023): the extreme scores are guessed."""
    count = len(scores)
    guesses, right = guess(scores, included, max(1, round(share * count / 2)))
    lower = one_run(count, guesses, right, DELTA, confidence)
    told = f"{what} ({right} of {guesses} guesses right)"
    return bound("one run", unit, observer, told, count, lower, proven, confidence)


def halves(rows: int, samples: int, source: torch.Generator) -> Tensor:
    """Each row a random half; rows come in pairs of complements, so that every sample is in half of them."""
    found: list[Tensor] = []
    for _ in range(max(1, rows // 2)):
        half = torch.zeros(samples, dtype=torch.bool)
        half[torch.randperm(samples, generator=source)[: samples // 2]] = True
        found += [half, ~half]
    return torch.stack(found)


def with_clients(cell: Cell, clients: Sequence[Tensor], x: Tensor, y: Tensor) -> Cell:
    """The cell with other samples at its clients: rows of ``x`` and ``y``."""
    return replace(cell, problem=replace(cell.problem, clients=tuple(clients), x_train=x, y_train=y))
