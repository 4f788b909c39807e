"""Client level: federations in which every honest client is a canary, there or not by the fall of a coin.

Everything but the local training is the federation's own code: cohorts, clipping, noise, aggregation, pruning. A coin
decides what the ledger's neighbours differ in: a client is absent (add or remove), sends zeros (zero out) or sends the
opposite (replace). The guarantee holds for any data, so nobody has to train, and bad clients have nothing to say.
Attackers look in the canary's direction (Andrew et al. 2023), at everything that the observer sees, and weigh it by its
likelihood under the noise that is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from attacks.canaries import coins, directions, evidence
from autoflip_secure.audit_record import EmpiricalEpsilon
from autoflip_secure.cell import Cell
from autoflip_secure.federation import Watcher, run_cells
from autoflip_secure.interfaces import ClientJob, Schedule, Trained
from autoflip_secure.parameters import Layout
from autoflip_secure.privacy_record import OBSERVERS, Guarantee
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.server import ServerState
from autoflip_secure.training import Trainer
from defenses.guarantees import guarantee
from defenses.privacy_ledger import schedule_of
from scenarios.audit_view import DELTA, Effort, by_one_run, in_the_open, proven_epsilon

_LENGTH = 1e3  # of a canary, in clip norms: the clip must act on every one
_FLOOR = 0.05  # noise that an attacker allows for, in clip norms, where next to none is claimed
_MOST = 50_000_000  # numbers in the rows of runs that go together
_APART = 104_729  # seeds of the runs


@dataclass(frozen=True)
class _Rerun(Cell):
    """The same bad clients, and the same cohorts where they are public; secrets are drawn at the new seed."""

    original: Cell | None = None
    secret_cohorts: bool = False
    absent: frozenset[int] = frozenset()

    @cached_property
    def bad_clients(self) -> Bool[Tensor, " clients"]:
        assert self.original is not None
        return self.original.bad_clients

    def cohort(self, round_: int) -> Int[Tensor, " cohort"]:
        assert self.original is not None
        drawn = self._drawn_anew(round_) if self.secret_cohorts else self.original.cohort(round_)
        return torch.tensor([k for k in drawn.tolist() if k not in self.absent], dtype=torch.long)

    def _drawn_anew(self, round_: int) -> Int[Tensor, " cohort"]:
        """Where participants bring the noise, as many honest ones as there were: the proof is given their number."""
        assert self.original is not None
        mechanism = self.protocol.client_level
        if mechanism is None or mechanism.trusted_server:
            return super().cohort(round_)
        before, bad = self.original.cohort(round_), self.bad_clients
        loyal = (~bad).nonzero().squeeze(1)
        order = torch.randperm(len(loyal), generator=generator(self.seed, Purpose.COHORT, round_))
        honest = loyal[order[: int((~bad[before]).sum())]]
        return torch.cat([before[bad[before]], honest]).sort().values


class _Canaries(Trainer):
    """Instead of training, every client of every run sends the row that it was given."""

    kind = "stacked"

    def __init__(self, known: Tensor, lengths: dict[int, Tensor]) -> None:
        """``known`` (clients, params): the canaries; ``lengths``: seed of a run -> (clients,)."""
        super().__init__("canaries", known.device)
        self.known, self.lengths = known, lengths

    def train(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: Schedule
    ) -> Trained:
        """The rows of the jobs' clients."""
        losses = torch.zeros(len(jobs), schedule.epochs, device=self.device)
        clients = torch.tensor([job.address[1] for job in jobs], dtype=torch.long, device=self.device)
        lengths = [self.lengths[job.seed][job.address[1]] for job in jobs]
        return Trained(self.known[clients] * torch.tensor(lengths, device=self.device)[:, None], losses)


class _Attacker(Watcher):
    """Adds up the evidence for every canary, release by release, in clip norms."""

    def __init__(self, claim: Guarantee, known: Tensor, runs: Sequence[Cell], *, sees_rows: bool) -> None:
        """``sees_rows``: what single clients send, else only what is made of it."""
        self.sees_rows, self.known = sees_rows, known
        self.scores = {run.seed: torch.zeros(len(known), dtype=torch.float64) for run in runs}
        self.guesses_cohorts = secret_cohorts(claim)
        replaced = claim.relation == "replace one client"
        self.otherwise, doubled = (-1.0, 2.0) if replaced else (0.0, 1.0)
        self.noise: dict[str, float] = {}
        self.rate: dict[str, float] = {}
        for release in claim.releases:  # the least noise, and the likeliest draw: only the attack depends on it
            noise = release.noise_multiplier * doubled
            self.noise[release.name] = min(noise, self.noise.get(release.name, noise))
            drawn = 1.0 if release.sampling == "none" else release.rate
            self.rate[release.name] = max(drawn, self.rate.get(release.name, 0.0))

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        """The rows, where the observer sees them; the sum alone is not used as evidence."""
        mechanism = cell.protocol.client_level
        assert mechanism is not None
        if self.sees_rows:
            self._add(cell, clients, (self.known[clients] * sent).sum(1) / mechanism.start().clip, "exploration")

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        """Rows as they were sent, or the step that the model took, whichever the observer sees."""
        clip, live = before.privacy.clip, before.mask if self.sees_rows else before.mask & after.mask
        looks = self.known * live  # clients send what is left of their canary, at full length
        looks = looks / looks.norm(dim=1, keepdim=True).clamp_min(1e-12)
        if self.sees_rows:
            self._add(cell, clients, (looks[clients] * sent).sum(1) / clip, "updates")
            return
        step = (after.weights - before.weights) * (cell.protocol.cohort / clip)
        everybody = torch.arange(len(self.known), device=clients.device)
        there = everybody if self.guesses_cohorts else clients
        self._add(cell, there, looks[there] @ step, "updates")

    def _add(self, cell: Cell, clients: Tensor, seen: Tensor, name: str) -> None:
        others = 0.0 if self.sees_rows else cell.protocol.cohort / self.known.shape[1]  # canaries in each other's way
        noise = (self.noise[name] ** 2 + others + _FLOOR**2) ** 0.5
        rate = self.rate[name]
        self.scores[cell.seed][clients.cpu()] += evidence(seen.cpu(), noise, self.otherwise, rate)


def claims_of(cell: Cell) -> list[tuple[int, Guarantee]]:
    """(number of the observer, what is proven against it), for every observer for whom something is proven."""
    if cell.protocol.client_level is None:
        return []
    schedule = replace(schedule_of(cell), delta=DELTA)
    found = [(part, guarantee(schedule, observer)) for part, observer in enumerate(OBSERVERS)]
    return [(part, claim) for part, claim in found if claim.proven and claim.clients]


def secret_cohorts(claim: Guarantee) -> bool:
    """Whether the proof rests on the observer not knowing who takes part."""
    return any(release.sampling != "none" for release in claim.releases)


def client_epsilons(cell: Cell, effort: Effort, confidence: float) -> list[EmpiricalEpsilon]:
    """Lower bounds, each with ``confidence``, beside upper bounds, for every observer for whom something is proven."""
    found, heard = [], (~cell.bad_clients).nonzero().squeeze(1)
    for part, claim in claims_of(cell):
        scores, thrown = _runs(cell, claim, effort, part)
        what = f"canary clients, everything that the {claim.observer} sees in {len(scores)} runs"
        values, truth = scores[:, heard].flatten(), thrown[:, heard].flatten()
        proven = proven_epsilon(cell, claim.observer, None)
        found.append(by_one_run("client", claim.observer, what, values, truth, proven, confidence))
    return found


def _runs(cell: Cell, claim: Guarantee, effort: Effort, part: int) -> tuple[Tensor, Tensor]:
    """Scores and coins, both (runs, clients)."""
    count, home = len(cell.problem.clients), cell.problem.initial.device
    mechanism = cell.protocol.client_level
    assert mechanism is not None
    trainable = cell.problem.layout.trainable
    known = directions(count, cell.problem.layout.size, 1.0, generator(cell.seed, Purpose.CANARIES, 2, part))
    known = torch.where(trainable.cpu(), known, 0.0).to(home)
    thrown = coins(effort.client_runs * count, generator(cell.seed, Purpose.CANARIES, 3, part)).view(-1, count)
    otherwise = -1.0 if claim.relation == "replace one client" else 0.0
    own = {field.name: getattr(cell, field.name) for field in fields(Cell)}
    quiet = in_the_open(cell).protocol.model_copy(update={"evaluate_every": cell.protocol.rounds})
    heard = ~cell.bad_clients
    runs, lengths = [], {}
    for number, present in enumerate(thrown):
        gone = (~present).nonzero().squeeze(1).tolist() if claim.relation == "add or remove one client" else ()
        changed = {"seed": cell.seed + _APART * (1 + number), "key": f"{cell.key}-{number}", "protocol": quiet}
        run = _Rerun(**{**own, **changed}, original=cell, secret_cohorts=secret_cohorts(claim), absent=frozenset(gone))
        runs.append(run)
        lengths[run.seed] = _LENGTH * mechanism.start().clip * torch.where(present, 1.0, otherwise) * heard
    sees_rows = claim.observer == "server" and not cell.protocol.secret_updates
    attacker, trainer = _Attacker(claim, known, runs, sees_rows=sees_rows), _Canaries(known, lengths)
    at_once = max(1, _MOST // (count * cell.problem.layout.size))
    for start in range(0, len(runs), at_once):
        run_cells(runs[start : start + at_once], trainer, watch=attacker)
    return torch.stack([attacker.scores[run.seed] for run in runs]), thrown
