"""Client level: federations in which every honest client is a canary, there or not by the fall of a coin.

Everything but the local training is the federation's own code: cohorts, clipping, noise, aggregation, pruning. A coin
decides what the ledger's neighbours differ in: a client is absent (add or remove), sends zeros (zero out) or sends the
opposite (replace). The guarantee holds for any data, so nobody has to train, and malicious clients have nothing to say.
Attackers look in the canary's direction (Andrew et al. 2023), at everything that the observer sees, and weigh it by its
likelihood under the noise that is claimed. In rounds in which clients send more than their update, the canary has a row
in every channel, and attackers look at the mean of what all of them show: with equal noise for each, in units of its
bound, that is the direction of the one mechanism that the ledger makes of them. Of a channel every observer is shown
what the server learned, for the ledger counts it so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import torch
from torch import Tensor

from autoflip_secure.algorithm.server_step import published_step
from autoflip_secure.attacks.inference.canaries import coins, directions, evidence
from autoflip_secure.defenses.privacy.accountants import Mechanism
from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import names, planned, wanted
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.audit import EmpiricalEpsilon, Part
from autoflip_secure.records.privacy import OBSERVERS, Observer, Release
from autoflip_secure.scenarios.audits.claims import Claim, audited, claim, factor_for, scaled, unproven_claim
from autoflip_secure.scenarios.audits.client_canaries import LENGTH, Canaries, Directions, Planted, Rerun
from autoflip_secure.scenarios.audits.view import Attacked, Effort, in_the_open, judged
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.terminal.counting import count_of

_FLOOR = 0.05  # noise that an attacker allows for, in clip norms, where next to none is claimed
_MOST = 50_000_000  # numbers in the rows of runs that go together
_MANY = 10  # honest clients that make one run tell enough; with fewer there are more runs
_APART = 104_729  # seeds of the runs


@dataclass(frozen=True)
class _Shown:
    """What the update of a round shows of each canary, until its channels come."""

    clients: Tensor
    shown: Tensor
    others: float


class _Attacker(Watcher):
    """Adds up the evidence for every canary, release by release, in clip norms."""

    def __init__(
        self,
        cell: Cell,
        found: Sequence[Release],
        known: Tensor,
        beside: Directions,
        runs: Sequence[Cell],
        seen: Part,
        *,
        sees_rows: bool,
    ) -> None:
        """``sees_rows``: what single clients send, else only what is made of it."""
        self.sees_rows, self.known, self.seen, self.beside = sees_rows, known, seen, beside
        self.waiting, self.rows = dict[int, _Shown](), dict[int, Mapping[str, Tensor]]()
        self.scores = {run.seed: torch.zeros(len(known), dtype=torch.float64) for run in runs}
        self.guesses_cohorts = secret_cohorts(found)
        replaced = any(release.relation == "replace one client" for release in found)
        self.otherwise, doubled = (-1.0, 2.0) if replaced else (0.0, 1.0)
        mechanism = cell.protocol.client_level
        assert mechanism is not None
        extra = mechanism.exploration_multiplier
        self.noise = {"exploration": cell.noise_multipliers[0] if extra is None else extra}
        self.rate = {"exploration": 1.0}
        for channels in {tuple(channel.name for channel in one) for one in planned(cell)}:
            name = ", ".join(("updates", *channels))
            updates = [release for release in found if release.name == name]
            if not updates:  # the ledger knows of none
                updates = [release for release in found if release.name.startswith("updates")]
            if updates:  # the least noise, and the likeliest draw: only the attack depends on it
                self.noise[name] = doubled * min(release.noise_multiplier for release in updates)
                self.rate[name] = max(1.0 if r.sampling == "none" else r.rate for r in updates)

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        """The rows, where the observer sees them or they alone are attacked; their sum is not used as evidence."""
        mechanism = cell.protocol.client_level
        assert mechanism is not None
        if self.seen == "exploration" or (self.sees_rows and self.seen == "everything"):
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
            self._update(cell, before, _Shown(clients, (looks[clients] * sent).sum(1) / clip, 0.0))
            return
        how = {"lr": cell.protocol.server_lr, "beta": cell.protocol.server_momentum}
        step = published_step(after.weights - before.weights, before.momentum, **how) * (cell.protocol.cohort / clip)
        everybody = torch.arange(len(self.known), device=clients.device)
        there = everybody if self.guesses_cohorts else clients
        others = cell.protocol.cohort / int(cell.problem.layout.sent.sum())  # canaries in each other's way
        self._update(cell, before, _Shown(there, looks[there] @ step, others))

    def _update(self, cell: Cell, before: ServerState, found: _Shown) -> None:
        if wanted(cell, before.round + 1):
            self.waiting[cell.seed] = found
        elif self.seen == "everything":
            self._add(cell, found.clients, found.shown, "updates", found.others)

    def channels(self, cell: Cell, before: ServerState, clients: Tensor, sent: Mapping[str, Tensor]) -> None:
        """Rows of what was sent besides."""
        self.rows[cell.seed] = sent

    def learned(self, cell: Cell, before: ServerState, means: Mapping[str, Tensor]) -> None:
        """The update and all channels of a round together."""
        rows, update = self.rows.pop(cell.seed), self.waiting.pop(cell.seed, None)
        if update is None:
            return
        parts, others, released = [update.shown], update.others, ["updates"]
        for channel, _ in wanted(cell, before.round + 1):
            looks, bound = self.beside[channel.name, channel.size], channel.bound
            released.append(channel.name)
            assert bound is not None
            if self.sees_rows:
                parts.append((looks[update.clients] * rows[channel.name]).sum(1) / bound)
            elif channel.name in means:
                parts.append(looks[update.clients] @ means[channel.name] * (cell.protocol.cohort / bound))
                others += cell.protocol.cohort / channel.size if len(looks) > channel.size else 0.0
        everything, wider = len(parts), 1.0
        if self.seen == "channels":
            parts, others, wider = parts[1:], others - update.others, (everything / max(1, everything - 1)) ** 0.5
        if parts:
            shown = torch.stack(parts).mean(0)
            self._add(cell, update.clients, shown, ", ".join(released), others / len(parts) ** 2, wider)

    def _add(self, cell: Cell, clients: Tensor, shown: Tensor, name: str, others: float, wider: float = 1.0) -> None:
        """``wider``: noise in what is shown / that of the release."""
        noise = ((wider * self.noise[name]) ** 2 + others + _FLOOR**2) ** 0.5
        self.scores[cell.seed][clients.cpu()] += evidence(shown.cpu(), noise, self.otherwise, self.rate[name])


def client_epsilons(cell: Cell, effort: Effort, confidence: float) -> list[EmpiricalEpsilon]:
    """Bounds, each with ``confidence``, beside what is proven, for every observer for whom something is proven.

    Of everything that it sees, with the scenario's noise and with calibrated noise. And of the exploration alone, for
    the first of them: of single explorers' noised rows, of which all that any observer sees is made and which the
    ledger counts; with noise that is chosen by a count of our own, for the ledger may have forgotten it. For the first
    of them also of what clients send beside their updates alone, held against what is proven of everything.
    Where an epsilon is claimed without a proof: one bound, of all that the server sees, held against that.
    """
    if cell.protocol.client_level is None:
        return []
    schedule = audited(cell)
    found: list[EmpiricalEpsilon] = []
    assert schedule.delta is not None
    if (unproven := unproven_claim(schedule)) is not None:
        return [_attacked(cell, "server", unproven, effort, "everything", 1.0, (0, 0), confidence)]
    for part, observer in enumerate(OBSERVERS):
        whole = claim(schedule, observer)
        if whole is None or whole.count is None:
            continue
        plans: list[tuple[Part, float]] = [("everything", 1.0), ("everything", factor_for(whole.count, schedule.delta))]
        if names(cell) and not found:
            plans.append(("channels", plans[1][1]))
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
    if schedule.claimed is not None:
        return 1
    heard = sum(claim(schedule, observer) is not None for observer in OBSERVERS)
    return 2 * heard + (heard > 0) * (cell.protocol.explores + bool(names(cell)))


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
    sight = {
        "everything": f"everything that the {observer} sees",
        "exploration": "the exploration, row by row,",
        "channels": f"what the {observer} learns beside the updates",
    }[seen]
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
    layout, wants = cell.problem.layout, {(c.name, c.size) for channels in planned(cell) for c in channels}
    places = [(*address, place) for place in range(len(wants))]
    beside = {
        (name, size): directions(clients, size, 1.0, generator(cell.seed, Purpose.CANARIES, 5, *place)).to(home)
        for place, (name, size) in zip(places, sorted(wants), strict=True)
    }
    sent = int(layout.sent.sum())
    known = directions(clients, sent, 1.0, generator(cell.seed, Purpose.CANARIES, 2, *address))
    known = torch.where(layout.trained, layout.spread(known, layout.sent), 0.0).to(home)
    thrown = coins(count * clients, generator(cell.seed, Purpose.CANARIES, 3, *address)).view(-1, clients)
    otherwise = -1.0 if claimed.relation == "replace one client" else 0.0
    own = {field.name: getattr(cell, field.name) for field in fields(Cell)}
    rounds = 1 if seen == "exploration" else cell.protocol.rounds
    quiet = in_the_open(cell).protocol.model_copy(update={"rounds": rounds})
    heard, first = ~cell.malicious_clients, 1 + count * (len(OBSERVERS) * address[1] + address[0])
    found, _ = releases(audited(cell), observer)
    secret = secret_cohorts(found)
    runs, lengths = [], {}
    for number, present in enumerate(thrown):
        gone = (~present).nonzero().squeeze(1).tolist() if claimed.relation == "add or remove one client" else ()
        changed = {"seed": cell.seed + _APART * (first + number), "key": f"{cell.key}-{number}", "protocol": quiet}
        signs = torch.where(present, 1.0, otherwise) * heard
        planted = Planted(beside, signs.to(home)) if beside else None
        more: dict[str, Any] = {"original": cell, "secret_cohorts": secret, "absent": frozenset(gone)}
        run = Rerun(**{**own, **changed, **more, "planted": planted})
        runs.append(run)
        lengths[run.seed] = LENGTH * mechanism.start().clip * signs
    sees_rows = cell.protocol.visibility.updates(observer) == "rows"
    attacker = _Attacker(cell, found, known, beside, runs, seen, sees_rows=sees_rows)
    trainer = Canaries(known, lengths)
    at_once = max(1, _MOST // (clients * cell.problem.layout.size))
    for start in range(0, len(runs), at_once):
        watch_cells(runs[start : start + at_once], trainer, attacker)
    return torch.stack([attacker.scores[run.seed] for run in runs]), thrown
