"""The ledger: every release of a run, known before it happens; :mod:`.guarantees` says what is proven for all.

The schedule of a run does not depend on data: who explores, who takes part in which round, how many steps a client
takes. So the ledger of a run is known before it begins. It holds for the clients that never misbehave. What hides them
in a sum, and from whom, is in :mod:`autoflip_secure.defenses.privacy.cohort_views`.

Where no proof exists the ledger says so and why. What is computed from what has been noised already is post-processing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, inf, sqrt

from autoflip_secure.defenses.privacy.accountants import counted, rdp_epsilon
from autoflip_secure.defenses.privacy.cohort_views import known_cohorts, unknown_cohorts
from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule
from autoflip_secure.records.privacy import Observer, Relation, Release


def releases(schedule: ReleaseSchedule, observer: Observer) -> tuple[list[Release], str]:
    """Everything that ``observer`` gets, and why nothing is proven ("" when something is)."""
    reason = _void(schedule, observer)
    accounts = proofs(schedule, observer)
    found = accounts[best(schedule, accounts)]
    return [r.model_copy(update={"reason": reason}) for r in found] if reason else found, reason


def proofs(schedule: ReleaseSchedule, observer: Observer) -> tuple[list[Release], ...]:
    """Every account of what ``observer`` gets in all attempts; each is complete, with neighbours of its own.

    Noised sums have two for who does not know the cohorts: either that hides a client (amplified, neighbours replace a
    client), or it is as for a server that sees the same sums and knows (every participation counts, neighbours zero out
    a client).
    """
    account = _sample_level if schedule.unit == "sample" else _client_level
    attempts = [account(one, observer) for one in (schedule, *schedule.earlier)]
    return tuple(_together(parts) for parts in zip(*attempts, strict=True))


def best(schedule: ReleaseSchedule, found: Sequence[list[Release]]) -> int:
    """Which of :func:`proofs` has the smallest epsilon, by RDP and of the client that pays most."""
    if len(found) == 1:
        return 0
    delta = deltas(schedule)[None]
    return min(range(len(found)), key=lambda proof: _most(found[proof], delta))


def _together(attempts: Iterable[list[Release]]) -> list[Release]:
    """What all attempts released; rows that differ in nothing but their number of steps are put together."""
    found: dict[str, Release] = {}
    for release in (release for one in attempts for release in one):
        alike = release.model_dump_json(exclude={"steps"})
        before = found[alike].steps if alike in found else 0
        found[alike] = release.model_copy(update={"steps": before + release.steps})
    return list(found.values())


def _void(schedule: ReleaseSchedule, observer: Observer) -> str:
    """Why no proof covers the run, or ""."""
    central = schedule.unit == "client" and schedule.noise == "central"
    reasons = {
        f"the mechanism {schedule.foreign!r} is not of this package, and what its code clips and noises is not "
        "checked": bool(schedule.foreign),
        schedule.unproven: bool(schedule.unproven),
        "noise_multiplier = 0: clipping alone proves nothing": 0.0 in {
            schedule.noise_multipliers[k] for k in schedule.honest
        },
        "exploration.patience stops explorers by a training loss without noise; leave it out": (
            schedule.unit == "sample" and bool(schedule.explorers) and schedule.early_stopping
        ),
        "exploration_noise_multiplier = 0: the explorers' deviations are released without noise": (
            schedule.unit == "client" and bool(schedule.explorers) and schedule.exploration_noise_multiplier == 0
        ),
        "clients send measures of their samples beside their updates, and DP-SGD covers updates alone": (
            schedule.unit == "sample" and bool(schedule.channels or schedule.prepared)
        ),
        f"the attack {', '.join(schedule.informed)} knows honest clients' updates without noise, and what malicious "
        "clients send is made of them; take one that knows its own update or its colluders'": (
            schedule.unit == "client" and bool(schedule.informed)
        ),
        "the server is trusted: it sees every update without noise": central and observer == "server",
        "the aggregator weighs updates by what it sees in them, without noise, so the step's sensitivity is not the "
        "clip norm; use aggregator: mean, or privacy.noise: distributed": central and not schedule.linear,
    }  # fmt: skip
    return next((reason for reason, applies in reasons.items() if applies), "")


def _sample_level(schedule: ReleaseSchedule, observer: Observer) -> list[list[Release]]:
    """One account: every client's own training, whoever looks."""
    found = []
    for client in schedule.honest:
        n = schedule.samples[client]
        took_part = schedule.rounds_of(client)
        common: dict[str, object] = {
            "observer": observer, "client": client, "mechanism": "gaussian", "relation": "zero out one sample",
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
    return [found]


def _release(name: str, first: int, last: int, steps: int, common: dict[str, object]) -> Release:
    return Release.model_validate({"name": name, "first_round": first, "last_round": last, "steps": steps, **common})


def _client_level(schedule: ReleaseSchedule, observer: Observer) -> list[list[Release]]:
    """The accounts of one attempt: of rows, or of sums."""
    distributed = schedule.noise == "distributed"
    if observer == "another client" and len(schedule.samples) == 1:
        return [[]]  # there is none
    if observer == "server" and not distributed:
        return [_without_noise(schedule)]
    if distributed and not (schedule.linear and (schedule.secure_sum or observer != "server")):
        return [_known(schedule, observer, rows=True)]
    known = [_known(schedule, observer, rows=False)] if distributed or not schedule.amplified else []
    return known if observer == "server" or not schedule.amplified else [_unknown(schedule, observer), *known]


def _most(found: list[Release], delta: float) -> float:
    """Epsilon of the client that pays most, by RDP."""
    by_client: dict[int | None, list[Release]] = {}
    for release in found:
        by_client.setdefault(release.client, []).append(release)
    shared = by_client.pop(None, [])
    counts = {counted([*shared, *own]) for own in by_client.values() or [[]]}
    epsilons = [None if count is None else rdp_epsilon(count, delta) for count in counts]
    return max((inf if epsilon is None else epsilon for epsilon in epsilons), default=0.0)


def _common(schedule: ReleaseSchedule, observer: Observer, relation: Relation) -> dict[str, object]:
    return {
        "observer": observer, "client": None, "mechanism": "gaussian", "relation": relation, "sampling": "none",
        "rate": 1.0, "population": len(schedule.samples), "reason": "",
        "post_processing": list(schedule.post_processing),
    }  # fmt: skip


def _explored(schedule: ReleaseSchedule, common: dict[str, object], sensitivity: float = 1.0) -> list[Release]:
    """Every explorer's own row with its own noise: one release, whoever else explores."""
    noise = schedule.exploration_noise_multiplier / sensitivity
    return [_release("exploration", 0, 0, 1, {**common, "noise_multiplier": noise})] if schedule.explorers else []


def _prepared(
    schedule: ReleaseSchedule, common: dict[str, object], *, rows: bool = False, another: bool = False,
    sensitivity: float = 1.0,
) -> list[Release]:  # fmt: skip
    """What all clients send before training: one release of all its channels, in which everybody takes part.

    Where clients bring the noise, each brings a share of 1/n, and those of who ever misbehaves do not count; one of the
    others may be the observer. Nothing is amplified, for nobody was drawn.
    """
    if not schedule.prepared:
        return []
    noise = schedule.noise_multipliers[0]
    if schedule.noise == "distributed":
        others = len(schedule.loyal) - (another and len(schedule.loyal) > 1)
        noise *= sqrt((1 if rows else others) / len(schedule.samples))
    noise /= sensitivity * sqrt(len(schedule.prepared))
    name = ", ".join(("preparation", *schedule.prepared))
    return [_release(name, 0, 0, 1, {**common, "noise_multiplier": noise})]


def _updates(numbers: list[int], common: dict[str, object], beside: tuple[str, ...] = ()) -> Release:
    return _release(", ".join(("updates", *beside)), numbers[0], numbers[-1], len(numbers), common)


def joint(noise: float, beside: Sequence[str]) -> float:
    """Noise / sensitivity of an update and other channels of one round and one cohort: one Gaussian mechanism.

    Each part has noise of ``noise`` times its own sensitivity. Divided by that, they are one row whose sensitivity is
    sqrt(1 + number of channels). Where the cohort is secret it is drawn once for all of them, so amplification is of
    this one mechanism: to amplify each part by itself would take two draws for granted.
    """
    return noise / sqrt(1 + len(beside))


def _without_noise(schedule: ReleaseSchedule) -> list[Release]:
    """What a server sees that adds the noise itself."""
    common = _common(schedule, "server", "zero out one client")
    bare = {**common, "mechanism": "none", "noise_multiplier": 0.0}
    rounds = schedule.by_channels(range(1, len(schedule.rounds) + 1))
    first = [one.model_copy(update={"noise_multiplier": 0.0}) for one in _prepared(schedule, bare)]
    updates = (_updates(numbers, bare, beside) for beside, numbers in rounds.items())
    return [*_explored(schedule, common), *first, *updates]


def _known(schedule: ReleaseSchedule, observer: Observer, *, rows: bool) -> list[Release]:
    """Releases to who knows who takes part, or may: every participation of every client, not amplified."""
    common = _common(schedule, observer, "zero out one client")
    another = observer == "another client"
    return [
        *_explored(schedule, common),
        *_prepared(schedule, common, rows=rows, another=another),
        *(
            _updates(those, {**common, "client": client, "noise_multiplier": joint(noise, beside)}, beside)
            for client in schedule.honest
            for noise, numbers in known_cohorts(schedule, client, rows=rows, another=another).items()
            for beside, those in schedule.by_channels(numbers).items()
        ),
    ]


def _unknown(schedule: ReleaseSchedule, observer: Observer) -> list[Release]:
    """Releases to who does not know who takes part, but for itself.

    Explorers bring noise of their own, and how strong noise is shows in many dimensions at once: one that is away would
    be missed. So with explorers a client is not removed but sends zeros, which to a sum that the server noises is the
    same. So it is where all clients send something before training, whose number is known.
    """
    there = schedule.explorers or schedule.prepared
    relation: Relation = "zero out one client" if there else "add or remove one client"
    sensitivity = 1.0
    if schedule.sampling == "fixed":
        relation, sensitivity = "replace one client", 2.0
    common = _common(schedule, observer, relation)
    another = observer == "another client"
    found = [
        *_explored(schedule, common, sensitivity),
        *_prepared(schedule, common, another=another, sensitivity=sensitivity),
    ]
    for beside, rounds in schedule.by_channels(range(1, len(schedule.rounds) + 1)).items():
        for seen, numbers in unknown_cohorts(schedule, rounds, another=another).items():
            own = {
                **common, "sampling": schedule.sampling, "rate": seen.rate, "population": seen.population,
                "noise_multiplier": joint(seen.noise_multiplier / sensitivity, beside),
            }  # fmt: skip
            found.append(_updates(numbers, own, beside))
    return found


def deltas(schedule: ReleaseSchedule) -> dict[int | None, float]:
    """Delta of each honest client (sample level), or of all (None)."""
    if schedule.unit == "client":
        return {None: schedule.delta or 0.1 / len(schedule.samples)}
    return {k: schedule.delta or 0.1 / schedule.samples[k] for k in schedule.honest}
