"""The ledger: every release of a run, written before it happens, and what is proven for all of them together.

The schedule of a run does not depend on data: who explores, who takes part in which round, how many steps a client
takes. So the ledger of a run is known before it begins. It holds for the clients that never act badly.

Where no proof exists the ledger says so and why. What is computed from what has been noised already is post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Literal

import numpy as np

from autoflip_secure.cell import Cell
from autoflip_secure.privacy_record import (
    OBSERVERS,
    ClientEpsilon,
    Guarantee,
    Observer,
    PrivacyRecord,
    Relation,
    Release,
)
from autoflip_secure.seeds import Purpose
from defenses.accountants import Count, counted, prv_epsilon, rdp_epsilon

CURVE_POINTS = 40
"""Points of the curve of epsilon over rounds, at most."""


@dataclass(frozen=True)
class Schedule:
    """What a run will release, as far as privacy is concerned. Nothing in it depends on data."""

    unit: Literal["sample", "client"]
    samples: tuple[int, ...]  # n_k
    honest: tuple[int, ...]  # clients that never act badly
    noise_multipliers: tuple[float, ...]  # per client
    delta: float | None  # None: a tenth of 1/n
    batch_size: int
    epochs: int
    rounds: tuple[tuple[int, ...], ...]  # participants of each round
    obeying: tuple[int, ...]  # of them, how many do as they are told, per round
    explorers: tuple[int, ...]  # () without exploration
    exploration_epochs: int
    early_stopping: bool  # of explorers, by a loss without noise
    sampling: Literal["fixed", "poisson"]
    cohort: int
    noise: Literal["central", "distributed"]
    exploration_noise_multiplier: float
    linear: bool  # the aggregate is a plain sum of rows
    post_processing: tuple[str, ...]  # what is computed from releases
    crowd: int  # clients that never act badly: among them a participant hides
    secure_sum: bool = False  # the server sees sums of updates only
    repeats: int = 1  # how often the run may have released something else: attempts under other versions


def releases(schedule: Schedule, observer: Observer) -> tuple[list[Release], str]:
    """Everything that ``observer`` gets, and why nothing is proven ("" when something is)."""
    reason = _void(schedule, observer)
    found = _sample_level(schedule, observer) if schedule.unit == "sample" else _client_level(schedule, observer)
    if reason:
        found = [r.model_copy(update={"reason": reason}) for r in found]
    return [r.model_copy(update={"steps": r.steps * schedule.repeats}) for r in found], reason


def _void(schedule: Schedule, observer: Observer) -> str:
    """Why no proof covers the run, or ""."""
    central = schedule.unit == "client" and schedule.noise == "central"
    reasons = {
        "noise_multiplier = 0: clipping alone proves nothing": 0.0 in {
            schedule.noise_multipliers[k] for k in schedule.honest
        },
        "exploration.patience stops explorers by a training loss without noise; leave it out": (
            schedule.unit == "sample" and bool(schedule.explorers) and schedule.early_stopping
        ),
        "exploration_noise_multiplier = 0: the explorers' deviations are released without noise": (
            schedule.unit == "client" and bool(schedule.explorers) and schedule.exploration_noise_multiplier == 0
        ),
        "the server is trusted: it sees every update without noise": central and observer == "server",
        "the aggregator weighs updates by what it sees in them, without noise, so the step's sensitivity is not the "
        "clip norm; use aggregator: mean, or privacy.noise: distributed": central and not schedule.linear,
    }  # fmt: skip
    return next((reason for reason, applies in reasons.items() if applies), "")


def _sample_level(schedule: Schedule, observer: Observer) -> list[Release]:
    found = []
    for client in schedule.honest:
        n = schedule.samples[client]
        took_part = [number for number, cohort in enumerate(schedule.rounds, 1) if client in cohort]
        common: dict[str, object] = {
            "observer": observer, "client": client, "mechanism": "gaussian", "relation": "add or remove one sample",
            "sampling": "poisson", "rate": min(1.0, schedule.batch_size / n), "population": n,
            "noise_multiplier": schedule.noise_multipliers[client], "reason": "",
            "post_processing": list(schedule.post_processing),
        }  # fmt: skip
        steps = ceil(n / schedule.batch_size)
        if client in schedule.explorers:
            found.append(_release("exploration", 0, 0, schedule.exploration_epochs * steps, common))
        if took_part:
            total = len(took_part) * schedule.epochs * steps
            found.append(_release("updates", took_part[0], took_part[-1], total, common))
    return found


def _release(name: str, first: int, last: int, steps: int, common: dict[str, object]) -> Release:
    return Release.model_validate({"name": name, "first_round": first, "last_round": last, "steps": steps, **common})


def _client_level(schedule: Schedule, observer: Observer) -> list[Release]:
    """What ``observer`` gets. Noised sums have two proofs for the public, and the one with the smaller epsilon counts.

    Either nobody outside knows who takes part (amplified, neighbours replace a client), or it is as for a server that
    sees the same sums and knows (every participation counts, neighbours zero out a client).
    """
    found = _seen(schedule, observer)
    if observer == "server" or schedule.noise == "central" or not schedule.linear:
        return found
    summed = _seen(replace(schedule, secure_sum=True), "server")
    other = [release.model_copy(update={"observer": observer}) for release in summed]
    delta = deltas(schedule)[None]
    return min((found, other), key=lambda releases: _most(releases, delta))


def _most(found: list[Release], delta: float) -> float:
    """Epsilon of the client that pays most, by RDP."""
    worst = 0.0
    for client in {release.client for release in found}:
        count = counted([r for r in found if r.client in (client, None)])
        epsilon = None if count is None else rdp_epsilon(count, delta)
        worst = max(worst, float("inf") if epsilon is None else epsilon)
    return worst


def _seen(schedule: Schedule, observer: Observer) -> list[Release]:
    sees_rows = schedule.noise == "distributed" and (
        (observer == "server" and not schedule.secure_sum) or not schedule.linear
    )
    hidden = observer == "public" and not sees_rows  # who takes part
    relation, doubled = _neighbours(schedule) if hidden else ("zero out one client", 1.0)
    common: dict[str, object] = {
        "observer": observer, "mechanism": "gaussian", "relation": relation, "sampling": "none", "rate": 1.0,
        "population": len(schedule.samples), "reason": "", "post_processing": list(schedule.post_processing),
    }  # fmt: skip
    sigma = schedule.noise_multipliers[0]
    found = []
    if schedule.explorers:
        noise = schedule.exploration_noise_multiplier / doubled
        found.append(_release("exploration", 0, 0, 1, {**common, "client": None, "noise_multiplier": noise}))
    last = len(schedule.rounds)
    if schedule.noise == "central" and observer == "server":
        bare = {**common, "client": None, "mechanism": "none", "noise_multiplier": 0.0}
        return [*found, _release("updates", 1, last, last, bare)]
    if sees_rows or observer == "server":
        for client in schedule.honest:
            took_part = [number for number, cohort in enumerate(schedule.rounds, 1) if client in cohort]
            by_noise: dict[float, list[int]] = {}
            for number in took_part:
                by_noise.setdefault(_effective(schedule, sigma, number, rows=sees_rows), []).append(number)
            for noise, numbers in by_noise.items():
                own = {**common, "client": client, "noise_multiplier": noise}
                found.append(_release("updates", numbers[0], numbers[-1], len(numbers), own))
        return found
    groups: dict[tuple[float, float], list[int]] = {}
    for number in range(1, last + 1):
        key = (_effective(schedule, sigma, number, rows=False) / doubled, _rate(schedule, number))
        groups.setdefault(key, []).append(number)
    own = {**common, "client": None, "sampling": schedule.sampling}
    if schedule.noise == "distributed":
        own["population"] = schedule.crowd
    for (noise, rate), numbers in groups.items():
        if rate > 0:  # else nobody who is protected sent anything
            drawn = {**own, "rate": rate, "noise_multiplier": noise}
            found.append(_release("updates", numbers[0], numbers[-1], len(numbers), drawn))
    return found


def _neighbours(schedule: Schedule) -> tuple[Relation, float]:
    """Neighbours of who does not know the cohorts, and sensitivity / clip norm under that relation.

    Explorers bring noise of their own, and how strong noise is shows in many dimensions at once: one that is away would
    be missed. So with explorers a client is not removed but sends zeros, which to a sum that the server noises is the
    same.
    """
    if schedule.sampling == "fixed":
        return "replace one client", 2.0
    return ("zero out one client" if schedule.explorers else "add or remove one client"), 1.0


def _rate(schedule: Schedule, number: int) -> float:
    """How likely an honest client is to be in round ``number``, for who does not know the cohort.

    Where participants bring the noise, its strength tells how many honest ones came, and the ledger counts the noise of
    that many. Given their number they are a sample without replacement of all that obey in this round, who are at least
    the ``crowd``. The cohort's own rate would be too small for rounds to which many of them came.
    """
    if schedule.noise == "central":
        return schedule.cohort / len(schedule.samples)
    return min(1.0, schedule.obeying[number - 1] / max(1, schedule.crowd))


def _effective(schedule: Schedule, sigma: float, number: int, *, rows: bool) -> float:
    """Noise / clip norm of what is seen in round ``number``: a row with its share, or the sum of the shares."""
    if schedule.noise == "central":
        return sigma
    if rows:
        return sigma / sqrt(schedule.cohort)
    return sigma * sqrt(min(1.0, schedule.obeying[number - 1] / schedule.cohort))


def deltas(schedule: Schedule) -> dict[int | None, float]:
    """Delta of each honest client (sample level), or of all (None)."""
    if schedule.unit == "client":
        return {None: schedule.delta or 0.1 / len(schedule.samples)}
    return {k: schedule.delta or 0.1 / schedule.samples[k] for k in schedule.honest}


def account(schedule: Schedule, attempts: int = 1, notes: tuple[str, ...] = ()) -> PrivacyRecord:
    """The ledger of a run: for the server and for the public, every release and the epsilon of all of them."""
    return PrivacyRecord(
        unit=schedule.unit,
        noise_multipliers=list(
            schedule.noise_multipliers if schedule.unit == "sample" else schedule.noise_multipliers[:1]
        ),
        guarantees=[guarantee(schedule, observer) for observer in OBSERVERS],
        attempts=attempts,
        notes=list(notes),
    )


def guarantee(schedule: Schedule, observer: Observer) -> Guarantee:
    """What ``observer`` learns at most."""
    found, reason = releases(schedule, observer)
    clients: list[ClientEpsilon] = []
    curve: list[tuple[int, float]] = []
    if not reason:
        per_client = deltas(schedule)
        own = {r.client for r in found} - {None}
        keys: list[int | None] = [*sorted(k for k in own if k is not None)]
        keys = keys or ([None] if found else [])
        known: dict[tuple[Count | None, float], ClientEpsilon] = {}
        counts: dict[int | None, Count | None] = {}
        for key in keys:
            mine = [r for r in found if r.client in (key, None)]
            delta = per_client[key] if key in per_client else per_client[None]
            counts[key] = count = counted(mine)
            if (count, delta) not in known:
                known[count, delta] = _epsilon(mine, delta)
            clients.append(known[count, delta].model_copy(update={"client": key}))
        if clients:
            worst = max(clients, key=lambda c: c.rdp if c.rdp is not None else float("inf"))
            sharp = _with_prv(worst, found)
            most = counts[worst.client]
            clients = [
                _with_prv(c, found)
                if c.rdp == worst.rdp
                else _no_more_than(sharp, c)
                if c.delta >= worst.delta and _within(counts[c.client], most)
                else c
                for c in clients
            ]
            curve = _over_rounds(schedule, observer, worst)
    relation: Relation = found[0].relation if found else "zero out one client"
    return Guarantee(
        observer=observer,
        relation=relation,
        proven=not reason,
        reason=reason or _rests_on(schedule, observer),
        releases=found,
        clients=clients,
        over_rounds=curve,
    )


def _epsilon(found: list[Release], delta: float) -> ClientEpsilon:
    count, training = counted(found), counted(r for r in found if r.name != "exploration")
    return ClientEpsilon(
        client=None,
        delta=delta,
        rdp=None if count is None else rdp_epsilon(count, delta),
        prv=None,
        training=None if training is None else rdp_epsilon(training, delta),
    )


def _with_prv(client: ClientEpsilon, found: list[Release]) -> ClientEpsilon:
    """PRV too, which is tighter and slower: for the client that pays most."""
    mine = [r for r in found if r.client in (client.client, None)]
    count, training = counted(mine), counted(r for r in mine if r.name != "exploration")
    prv = None if count is None else prv_epsilon(count, client.delta)
    own = None if training is None else prv_epsilon(training, client.delta)
    best = min((e for e in (client.training, own) if e is not None), default=None)
    return client.model_copy(update={"prv": prv, "training": best})


def _within(count: Count | None, other: Count | None) -> bool:
    """Whether everything in ``count`` is in ``other`` too."""
    if count is None or other is None:
        return False
    steps = dict(other)
    return all(number <= steps.get(mechanism, 0) for mechanism, number in count)


def _no_more_than(worst: ClientEpsilon, client: ClientEpsilon) -> ClientEpsilon:
    """PRV of the client that pays most is a bound for one that takes part in less of the same, and for its updates."""
    alone = [epsilon for epsilon in (client.training, worst.prv) if epsilon is not None]
    training = None if client.training is None else min(alone)
    return client.model_copy(update={"prv": worst.prv, "training": training})


def _over_rounds(schedule: Schedule, observer: Observer, worst: ClientEpsilon) -> list[tuple[int, float]]:
    """(round, epsilon so far) of the client that pays most, by RDP; round 0 is the exploration."""
    one = schedule if worst.client is None else replace(schedule, honest=(worst.client,))
    rounds = len(schedule.rounds)
    curve = []
    for number in sorted({round(x) for x in np.linspace(0, rounds, min(rounds, CURVE_POINTS) + 1)}):
        so_far = replace(one, rounds=schedule.rounds[:number], obeying=schedule.obeying[:number])
        count = counted(releases(so_far, observer)[0])
        epsilon = None if count is None else rdp_epsilon(count, worst.delta)
        if epsilon is not None:
            curve.append((number, ceil(1000 * epsilon) / 1000))
    return curve


def _rests_on(schedule: Schedule, observer: Observer) -> str:
    if schedule.unit == "sample":
        return "per-sample clipping and noise inside every honest client; Poisson batches"
    if schedule.noise == "central":
        return "a trusted server that clips, adds the noise and publishes the noised step alone"
    if observer == "server" and schedule.secure_sum:
        return "a secure sum of noised updates; the noise of the honest participants of each round alone is counted"
    return "each honest client's own share of the noise"


def schedule_of(cell: Cell) -> Schedule:
    """The schedule of a cell whose noise multipliers are known."""
    protocol, problem = cell.protocol, cell.problem
    mechanism = protocol.mechanism
    assert mechanism is not None
    rounds = tuple(tuple(cell.cohort(number).tolist()) for number in range(1, protocol.rounds + 1))
    bad = [set(cell.bad_in(number).nonzero().squeeze(1).tolist()) for number in range(protocol.rounds + 1)]
    ever = set().union(*bad)
    explorers: tuple[int, ...] = ()
    if protocol.explores:
        count = protocol.exploration.explorers or len(problem.clients)
        explorers = tuple(cell.draw(Purpose.EXPLORERS, count).tolist())
    extra = mechanism.exploration_multiplier
    derived = ["the global models and their accuracy"]
    if protocol.aggregator.scores_clients:
        derived.insert(0, "agreement scores")
    if protocol.explores:
        derived.insert(0, "guidance and masks")
    return Schedule(
        unit=mechanism.unit,
        samples=tuple(len(rows) for rows in problem.clients),
        honest=tuple(k for k in range(len(problem.clients)) if k not in ever),
        noise_multipliers=cell.noise_multipliers,
        delta=mechanism.delta,
        batch_size=protocol.training.batch_size,
        epochs=protocol.training.epochs,
        rounds=rounds,
        obeying=tuple(len(set(cohort) - bad[number]) for number, cohort in enumerate(rounds, 1)),
        explorers=explorers,
        exploration_epochs=protocol.exploration.epochs,
        early_stopping=protocol.exploration.patience is not None,
        sampling=protocol.sampling,
        cohort=protocol.cohort,
        noise="central" if mechanism.trusted_server else "distributed",
        exploration_noise_multiplier=cell.noise_multipliers[0] if extra is None else extra,
        linear=protocol.aggregator.linear,
        post_processing=tuple(derived),
        crowd=len(problem.clients) - len(ever),
        secure_sum=protocol.secret_updates,
    )
