"""What all parts of an audit share: how hard attackers try, what the server saw, and how a bound is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from autoflip_secure.attacks.inference.empirical_epsilon import Curve, guess, refuted, refuted_by_runs, shares_right
from autoflip_secure.attacks.inference.membership import logit_confidence
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_jobs
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ClientJob, PrivacyView
from autoflip_secure.records.audit import EmpiricalEpsilon, Part
from autoflip_secure.records.privacy import Observer
from autoflip_secure.scenarios.audits.claims import Claim
from autoflip_secure.seeds import Purpose, numpy_generator
from autoflip_secure.training.evaluation import class_outputs

CONFIDENCE = 0.95
"""That all lower bounds of one audit hold together; see :func:`each`."""
FEWEST = 8
"""Samples of a client that is worth attacking."""
GUESSED = 0.3
"""Share of the canaries that is guessed in a single run. Near the best share for 200 to 1,000 canaries that show by 0.5
to 3 standard deviations (simulated)."""


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
    gradient_runs: int = 128  # of one client whose samples' gradients are canaries
    client_runs: int = 128  # federations in which every honest client is a canary; more where there are few clients
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
    """The same run without parties: what they would hide, for attacks on what they leave and for comparison.

    Its accuracy is that of the global model, which is what is attacked.
    """
    return replace(cell, protocol=cell.protocol.model_copy(update={"secure_sum": None, "evaluation": "global"}))


def victim_of(cell: Cell, views: Views) -> int:
    """The honest client that took part last.

    Raises:
        InputError: there is none with enough samples.
    """
    honest = [k for k in views.sent if not bool(cell.malicious_clients[k]) and len(cell.problem.clients[k]) >= FEWEST]
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
        active=before.mask & cell.problem.layout.trained.to(before.mask.device),
        expected=float(cell.protocol.cohort),
        noise_multiplier=cell.noise_multipliers[0],
        generators=[numpy_generator(cell.seed, Purpose.AUDIT, *address, row) for row in range(count)],
        server=numpy_generator(cell.seed, Purpose.AUDIT, *address, count),
        weights=before.weights,
        plan=cell.noise_plan,
    )
    return mechanism.send(before.privacy, updates, view)


def confidences(cell: Cell, vectors: Tensor, samples: Tensor, labels: Tensor) -> Tensor:
    """Logit confidence of each model (models, params) in each label, (models, samples)."""
    return logit_confidence(class_outputs(cell.problem.module, cell.problem.layout, vectors, samples), labels)


def each(bounds: int) -> float:
    """Confidence of each of so many lower bounds, so that all hold together with :data:`CONFIDENCE` (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, bounds)


@dataclass(frozen=True)
class Attacked:
    """What an attack is about, in the words of the record."""

    unit: Literal["sample", "client"]
    observer: Observer
    what: str
    part: Part = "everything"
    factor: float = 1.0  # of all noise

    @property
    def noise(self) -> Literal["as run", "calibrated"]:
        """Where the attack ran."""
        return "as run" if self.factor == 1 else "calibrated"


def judged(attacked: Attacked, claim: Claim, scores: Tensor, included: Tensor, confidence: float) -> EmpiricalEpsilon:
    """Guess which canaries are in, and hold what that shows against the claim; scores and coins are (runs, canaries).

    In many runs all are guessed. In one the attacker has an opinion on the extreme scores only, as many as was fixed
    beforehand.
    """
    runs, canaries = scores.shape
    if runs == 1:
        guesses, right = guess(scores[0], included[0], max(1, round(GUESSED * canaries / 2)))
        found, perfect = (partial(_refuted, canaries, guesses, count, confidence) for count in (right, guesses))
    else:
        shares = shares_right(scores, included)
        guesses, right = included.numel(), round(float(shares.sum()) * canaries)
        found, perfect = (
            partial(refuted_by_runs, shares=each, confidence=confidence) for each in (shares, np.ones(runs))
        )
    return EmpiricalEpsilon(
        **vars(attacked),
        noise=attacked.noise,
        relation=claim.relation,
        runs=runs,
        canaries=included.numel(),
        guesses=guesses,
        right=right,
        delta=claim.delta,
        confidence=confidence,
        lower=claim.shown(found),
        ceiling=claim.shown(perfect),
        proven=claim.proven,
        claimed=claim.claimed,
        violated=claim.proven is not None and found(claim.curve(0)),
    )


def _refuted(canaries: int, guesses: int, right: int, confidence: float, curve: Curve) -> bool:
    return refuted(curve, canaries, guesses, right, confidence)


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
