"""Client level: federations in which every honest client is a canary, there or not by the fall of a coin.

Everything but the local training is the federation's own code: cohorts, clipping, noise, aggregation, pruning. A coin
decides what the ledger's neighbours differ in: a client is absent (add or remove), sends zeros (zero out) or sends the
opposite (replace). The guarantee holds for any data, so nobody has to train. Attackers look in the canary's direction
(Andrew et al. 2023), at everything that the observer sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from attacks.canaries import coins, directions
from autoflip_secure.audit_record import EmpiricalEpsilon
from autoflip_secure.cell import Cell
from autoflip_secure.federation import Watcher, run_cells
from autoflip_secure.interfaces import ClientJob, Schedule, Trained
from autoflip_secure.parameters import Layout
from autoflip_secure.privacy_record import OBSERVERS, Guarantee
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.server import ServerState
from autoflip_secure.training import Trainer
from defenses.privacy_ledger import guarantee, schedule_of
from scenarios.audit_view import DELTA, Effort, by_one_run, in_the_open, proven_epsilon

_LENGTH = 1e3  # of a canary, in clip norms: the clip must act on every one
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
        drawn = super().cohort(round_) if self.secret_cohorts else self.original.cohort(round_)
        return torch.tensor([k for k in drawn.tolist() if k not in self.absent], dtype=torch.long)


class _Canaries(Trainer):
    """Instead of training, every client of every run sends the row that it was given."""

    kind = "stacked"

    def __init__(self, rows: dict[int, Tensor], device: torch.device) -> None:
        """``rows``: seed of a run -> (clients, params)."""
        super().__init__("canaries", device)
        self.rows = rows

    def train(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: Schedule
    ) -> Trained:
        """The rows of the jobs' clients."""
        losses = torch.zeros(len(jobs), schedule.epochs, device=self.device)
        if not jobs:
            return Trained(torch.zeros(0, layout.size, device=self.device), losses)
        return Trained(torch.stack([self.rows[job.seed][job.address[1]] for job in jobs]).to(self.device), losses)

    def _train(
        self,
        net: nn.Module,
        layout: Layout,
        x: Tensor,
        jobs: Sequence[ClientJob],
        schedule: Schedule,
        notes: dict[str, bool],
    ) -> tuple[Tensor, Tensor]:
        raise AssertionError("train does all of it")


class _Attacker(Watcher):
    """Adds up what each canary's direction shows, in clip norms, each release by its claimed signal to noise."""

    def __init__(self, claim: Guarantee, known: Tensor, runs: Sequence[Cell], *, sees_rows: bool) -> None:
        """``sees_rows``: what single clients send, else only what is made of it."""
        self.sees_rows, self.known = sees_rows, known
        self.scores = {run.seed: torch.zeros(len(known), dtype=torch.float64) for run in runs}
        self.noise = {name: min(r.noise_multiplier for r in claim.releases if r.name == name) for name in
                      {release.name for release in claim.releases}}  # fmt: skip

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        mechanism = cell.protocol.client_level
        assert mechanism is not None
        if self.sees_rows:
            self._add(cell, clients, sent, mechanism.start().clip, "exploration")

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        clip = before.privacy.clip
        if self.sees_rows:
            self._add(cell, clients, sent, clip, "updates")
        else:
            step = (after.weights - before.weights) * (cell.protocol.cohort / clip)
            self.scores[cell.seed] += (self.known @ step).double().cpu()

    def _add(self, cell: Cell, clients: Tensor, sent: Tensor, clip: float, name: str) -> None:
        seen = (self.known[clients] * sent).sum(1).double().cpu() / clip
        self.scores[cell.seed][clients.cpu()] += seen / max(self.noise[name], 1e-3) ** 2


def client_epsilons(cell: Cell, effort: Effort) -> list[EmpiricalEpsilon]:
    """Lower bounds beside upper bounds, for every observer for whom something is proven."""
    found = []
    for part, observer in enumerate(OBSERVERS):
        claim = guarantee(replace(schedule_of(cell), delta=DELTA), observer)
        if claim.proven and claim.clients:
            scores, thrown = _runs(cell, claim, effort, part)
            heard = (~cell.bad_clients).nonzero().squeeze(1)
            what = f"canary clients, everything that the {observer} sees in {len(scores)} runs"
            values, truth = scores[:, heard].flatten(), thrown[:, heard].flatten()
            found.append(by_one_run("client", observer, what, values, truth, proven_epsilon(cell, observer, None)))
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
    secret = any(release.sampling != "none" for release in claim.releases)
    runs, rows = [], {}
    for number, present in enumerate(thrown):
        gone = (~present).nonzero().squeeze(1).tolist() if claim.relation == "add or remove one client" else ()
        changed = {"seed": cell.seed + _APART * (1 + number), "key": f"{cell.key}-{number}", "protocol": quiet}
        run = _Rerun(**{**own, **changed}, original=cell, secret_cohorts=secret, absent=frozenset(gone))
        runs.append(run)
        rows[run.seed] = (
            _LENGTH * mechanism.start().clip * known * torch.where(present, 1.0, otherwise).to(home)[:, None]
        )
    sees_rows = claim.observer == "server" and not cell.protocol.secret_updates
    attacker = _Attacker(claim, known, runs, sees_rows=sees_rows)
    run_cells(runs, _Canaries(rows, home), watch=attacker)
    return torch.stack([attacker.scores[run.seed] for run in runs]), thrown
