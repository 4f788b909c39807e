"""Client level: federations in which every honest client is a canary, there or not by the fall of a coin.

Everything but the local training is the federation's own code: cohorts, clipping, noise, aggregation, pruning. A coin
decides what the ledger's neighbours differ in: a client is absent (add or remove), sends zeros (zero out) or sends the
opposite (replace). The guarantee holds for any data, so nobody has to train, and malicious clients have nothing to say.
Attackers look in the canary's direction (Andrew et al. 2023), at everything that the observer sees, and weigh it by its
likelihood under the noise that is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import ceil

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from autoflip_secure.algorithm.server_step import published_step
from autoflip_secure.attacks.inference.canaries import coins, directions, evidence
from autoflip_secure.defenses.privacy.accountants import Mechanism
from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ClientJob, Trained, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.audit import EmpiricalEpsilon, Part
from autoflip_secure.records.privacy import OBSERVERS, Observer, Release
from autoflip_secure.scenarios.audits.claims import Claim, audited, claim, factor_for, scaled
from autoflip_secure.scenarios.audits.view import Attacked, Effort, in_the_open, judged
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.terminal.counting import count_of
from autoflip_secure.training import Trainer

_LENGTH = 1e3  # of a canary, in clip norms: the clip must act on every one
_FLOOR = 0.05  # noise that an attacker allows for, in clip norms, where next to none is claimed
_MOST = 50_000_000  # numbers in the rows of runs that go together
_MANY = 10  # honest clients that make one run tell enough; with fewer there are more runs
_APART = 104_729  # seeds of the runs


@dataclass(frozen=True)
class _Rerun(Cell):
    """The same malicious clients, and the same cohorts where they are public; secrets are drawn at the new seed."""

    original: Cell | None = None
    secret_cohorts: bool = False
    absent: frozenset[int] = frozenset()

    @cached_property
    def malicious_clients(self) -> Bool[Tensor, " clients"]:
        assert self.original is not None
        return self.original.malicious_clients

    def cohort(self, round_: int) -> Int[Tensor, " cohort"]:
        assert self.original is not None
        drawn = self._drawn_anew(round_) if self.secret_cohorts else self.original.cohort(round_)
        return torch.tensor([k for k in drawn.tolist() if k not in self.absent], dtype=torch.long)

    def _drawn_anew(self, round_: int) -> Int[Tensor, " cohort"]:
        """Where participants bring the noise, as many honest ones as there were: the proof is given their number."""
        assert self.original is not None
        if self.protocol.visibility.noise != "distributed":
            return super().cohort(round_)
        before, malicious = self.original.cohort(round_), self.malicious_clients
        loyal = (~malicious).nonzero().squeeze(1)
        order = torch.randperm(len(loyal), generator=generator(self.seed, Purpose.COHORT, round_))
        honest = loyal[order[: int((~malicious[before]).sum())]]
        return torch.cat([before[malicious[before]], honest]).sort().values


class _Canaries(Trainer):
    """Instead of training, every client of every run sends the row that it was given."""

    kind = "stacked"

    def __init__(self, known: Tensor, lengths: dict[int, Tensor]) -> None:
        """``known`` (clients, params): the canaries; ``lengths``: seed of a run -> (clients,)."""
        super().__init__("canaries", known.device)
        self.known, self.lengths = known, lengths

    def train(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: TrainingSchedule
    ) -> Trained:
        """The rows of the jobs' clients."""
        losses = torch.zeros(len(jobs), schedule.epochs, device=self.device)
        clients = torch.tensor([job.address[1] for job in jobs], dtype=torch.long, device=self.device)
        lengths = [self.lengths[job.seed][job.address[1]] for job in jobs]
        return Trained(self.known[clients] * torch.tensor(lengths, device=self.device)[:, None], losses)

    def gradients(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: TrainingSchedule
    ) -> Tensor:
        """Zeros: nobody has data, and what is sent beside the rows is not attacked."""
        return torch.zeros(len(jobs), layout.size, device=self.device)


class _Attacker(Watcher):
    """Adds up the evidence for every canary, release by release, in clip norms."""

    def __init__(
        self, cell: Cell, found: Sequence[Release], known: Tensor, runs: Sequence[Cell], seen: Part, *, sees_rows: bool
    ) -> None:
        """``sees_rows``: what single clients send, else only what is made of it."""
        self.sees_rows, self.known, self.seen = sees_rows, known, seen
        self.scores = {run.seed: torch.zeros(len(known), dtype=torch.float64) for run in runs}
        self.guesses_cohorts = secret_cohorts(found)
        replaced = any(release.relation == "replace one client" for release in found)
        self.otherwise, doubled = (-1.0, 2.0) if replaced else (0.0, 1.0)
        mechanism = cell.protocol.client_level
        assert mechanism is not None
        extra = mechanism.exploration_multiplier
        self.noise = {"exploration": cell.noise_multipliers[0] if extra is None else extra}
        self.rate = {"exploration": 1.0}
        updates = [release for release in found if release.name != "exploration"]
        if updates:  # the least noise, and the likeliest draw: only the attack depends on it
            self.noise["updates"] = doubled * min(release.noise_multiplier for release in updates)
            self.rate["updates"] = max(1.0 if r.sampling == "none" else r.rate for r in updates)

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        """The rows, where the observer sees them or they alone are attacked; their sum is not used as evidence."""
        mechanism = cell.protocol.client_level
        assert mechanism is not None
        if self.sees_rows or self.seen == "exploration":
            shown = (self.known[clients] * sent).sum(1) / mechanism.start().clip
            self._add(cell, clients, shown, "exploration", others=0.0)

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        """Rows as they were sent, or the step that the model took, whichever the observer sees."""
        if self.seen == "exploration":
            return
        clip, live = before.privacy.clip, before.mask if self.sees_rows else before.mask & after.mask
        looks = self.known * live  # clients send what is left of their canary, at full length
        looks = looks / looks.norm(dim=1, keepdim=True).clamp_min(1e-12)
        if self.sees_rows:
            self._add(cell, clients, (looks[clients] * sent).sum(1) / clip, "updates", others=0.0)
            return
        how = {"lr": cell.protocol.server_lr, "beta": cell.protocol.server_momentum}
        step = published_step(after.weights - before.weights, before.momentum, **how) * (cell.protocol.cohort / clip)
        everybody = torch.arange(len(self.known), device=clients.device)
        there = everybody if self.guesses_cohorts else clients
        others = cell.protocol.cohort / int(cell.problem.layout.sent.sum())  # canaries in each other's way
        self._add(cell, there, looks[there] @ step, "updates", others)

    def _add(self, cell: Cell, clients: Tensor, shown: Tensor, name: str, others: float) -> None:
        noise = (self.noise[name] ** 2 + others + _FLOOR**2) ** 0.5
        self.scores[cell.seed][clients.cpu()] += evidence(shown.cpu(), noise, self.otherwise, self.rate[name])


def client_epsilons(cell: Cell, effort: Effort, confidence: float) -> list[EmpiricalEpsilon]:
    """Bounds, each with ``confidence``, beside what is proven, for every observer for whom something is proven.

    Of everything that it sees, with the scenario's noise and with calibrated noise. And of the exploration alone, for
    the first of them: of single explorers' noised rows, of which all that any observer sees is made and which the
    ledger counts; with noise that is chosen by a count of our own, for the ledger may have forgotten it.
    """
    if cell.protocol.client_level is None:
        return []
    schedule = audited(cell)
    found: list[EmpiricalEpsilon] = []
    assert schedule.delta is not None
    for part, observer in enumerate(OBSERVERS):
        whole = claim(schedule, observer)
        if whole is None or whole.count is None:
            continue
        plans: list[tuple[Part, float]] = [("everything", 1.0), ("everything", factor_for(whole.count, schedule.delta))]
        if cell.protocol.explores and not found:
            alone = ((Mechanism(schedule.exploration_noise_multiplier, 1.0, "none"), 1),)
            plans.append(("exploration", factor_for(alone, schedule.delta)))
        for number, (seen, factor) in enumerate(plans):
            noisy, address = scaled(cell, factor), (part, number)
            claimed = claim(audited(noisy), observer, only="exploration" if seen == "exploration" else None)
            assert claimed is not None
            found.append(_attacked(noisy, observer, claimed, effort, seen, factor, address, confidence))
    return found


def bounds_of(cell: Cell) -> int:
    """How many bounds :func:`client_epsilons` gives."""
    if cell.protocol.client_level is None:
        return 0
    schedule = audited(cell)
    heard = sum(claim(schedule, observer) is not None for observer in OBSERVERS)
    return 2 * heard + (heard > 0 and cell.protocol.explores)


def _attacked(
    cell: Cell,
    observer: Observer,
    claimed: Claim,
    effort: Effort,
    seen: Part,
    factor: float,
    address: tuple[int, int],
    confidence: float,
) -> EmpiricalEpsilon:
    """One bound; ``cell`` and ``claimed`` have their noise times ``factor`` already."""
    heard = (~cell.malicious_clients).nonzero().squeeze(1)
    count = max(effort.client_runs, ceil(_MANY * effort.client_runs / len(heard)))
    scores, thrown = _runs(cell, claimed, observer, count, seen, address)
    sight = f"everything that the {observer} sees" if seen == "everything" else "the exploration, row by row,"
    what = f"canary clients, {sight} in {count_of(len(scores), 'run')}"
    attacked = Attacked("client", observer, what, seen, factor)
    return judged(attacked, claimed, scores[:, heard], thrown[:, heard], confidence)


def secret_cohorts(found: Sequence[Release]) -> bool:
    """Whether the proof rests on the observer not knowing who takes part."""
    return any(release.sampling != "none" for release in found)


def _runs(
    cell: Cell, claimed: Claim, observer: Observer, count: int, seen: Part, address: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Scores and coins, both (runs, clients)."""
    clients, home = len(cell.problem.clients), cell.problem.initial.device
    mechanism = cell.protocol.client_level
    assert mechanism is not None
    layout = cell.problem.layout
    sent = int(layout.sent.sum())
    known = directions(clients, sent, 1.0, generator(cell.seed, Purpose.CANARIES, 2, *address))
    known = torch.where(layout.trained, layout.spread(known, layout.sent), 0.0).to(home)
    thrown = coins(count * clients, generator(cell.seed, Purpose.CANARIES, 3, *address)).view(-1, clients)
    otherwise = -1.0 if claimed.relation == "replace one client" else 0.0
    own = {field.name: getattr(cell, field.name) for field in fields(Cell)}
    rounds = cell.protocol.rounds if seen == "everything" else 1
    quiet = in_the_open(cell).protocol.model_copy(update={"rounds": rounds})
    heard, first = ~cell.malicious_clients, 1 + count * (len(OBSERVERS) * address[1] + address[0])
    found, _ = releases(audited(cell), observer)
    secret = secret_cohorts(found)
    runs, lengths = [], {}
    for number, present in enumerate(thrown):
        gone = (~present).nonzero().squeeze(1).tolist() if claimed.relation == "add or remove one client" else ()
        changed = {"seed": cell.seed + _APART * (first + number), "key": f"{cell.key}-{number}", "protocol": quiet}
        run = _Rerun(**{**own, **changed}, original=cell, secret_cohorts=secret, absent=frozenset(gone))
        runs.append(run)
        lengths[run.seed] = _LENGTH * mechanism.start().clip * torch.where(present, 1.0, otherwise) * heard
    sees_rows = cell.protocol.visibility.updates(observer) == "rows"
    attacker = _Attacker(cell, found, known, runs, seen, sees_rows=sees_rows)
    trainer = _Canaries(known, lengths)
    at_once = max(1, _MOST // (clients * cell.problem.layout.size))
    for start in range(0, len(runs), at_once):
        watch_cells(runs[start : start + at_once], trainer, attacker)
    return torch.stack([attacker.scores[run.seed] for run in runs]), thrown
