"""The ledger: every release of a run, known before it happens; :mod:`~defenses.guarantees` says what is proven for all.

The schedule of a run does not depend on data: who explores, who takes part in which round, how many steps a client
takes. So the ledger of a run is known before it begins. It holds for the clients that never act badly.

Where no proof exists the ledger says so and why. What is computed from what has been noised already is post-processing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Literal

from autoflip_secure.cell import Cell
from autoflip_secure.privacy_record import Observer, Relation, Release
from autoflip_secure.seeds import Purpose
from defenses.accountants import counted, rdp_epsilon


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
    earlier: tuple[Schedule, ...] = ()  # attempts under other conditions: other draws, so other releases


def releases(schedule: Schedule, observer: Observer) -> tuple[list[Release], str]:
    """Everything that ``observer`` gets, and why nothing is proven ("" when something is)."""
    reason = _void(schedule, observer)
    found = _sample_level(schedule, observer) if schedule.unit == "sample" else _client_level(schedule, observer)
    return [r.model_copy(update={"reason": reason}) for r in found] if reason else found, reason


def _attempts(schedule: Schedule, seen: Callable[[Schedule], list[Release]]) -> list[Release]:
    """What all attempts released; rows that differ in nothing but their number of steps are put together."""
    found: dict[str, Release] = {}
    for release in (release for one in (schedule, *schedule.earlier) for release in seen(one)):
        alike = release.model_dump_json(exclude={"steps"})
        before = found[alike].steps if alike in found else 0
        found[alike] = release.model_copy(update={"steps": before + release.steps})
    return list(found.values())


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
    return _attempts(schedule, lambda one: _of_samples(one, observer))


def _of_samples(schedule: Schedule, observer: Observer) -> list[Release]:
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
    found = _attempts(schedule, lambda one: _seen(one, observer))
    if observer == "server" or schedule.noise == "central" or not schedule.linear:
        return found
    summed = _attempts(schedule, lambda one: _seen(replace(one, secure_sum=True), "server"))
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
