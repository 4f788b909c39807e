"""What the ledger proves: epsilon of everything released, per client and observer, and over rounds.

Each client's epsilon is known by RDP, which is quick. PRV and PLD are tighter and slower: they are asked for the
clients who may pay most, until nobody's RDP is above the largest epsilon found, so that the largest of all is the
tightest one's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from autoflip_secure.defenses.privacy.accountants import Count, Mechanism, by_client, counted, prv_epsilon, rdp_epsilon
from autoflip_secure.defenses.privacy.ledger import best, deltas, proofs, releases
from autoflip_secure.defenses.privacy.pld import pld_epsilon, tightest
from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule
from autoflip_secure.records.privacy import (
    OBSERVERS,
    Claimed,
    ClientEpsilon,
    Guarantee,
    Observer,
    PrivacyRecord,
    Relation,
    Release,
)
from autoflip_secure.records.rounding import upper_number
from autoflip_secure.runtime.threads import one_thread

CURVE_POINTS = 40
"""Points of the curve of epsilon over rounds, at most."""
MOST = 12
"""Different clients for whom PRV and PLD are asked, at most; the others' RDP counts."""


def account(schedule: ReleaseSchedule, attempts: int = 1, notes: tuple[str, ...] = ()) -> PrivacyRecord:
    """The ledger of a run: for every observer, every release and the epsilon of all of them."""
    return PrivacyRecord(
        unit=schedule.unit,
        noise_multipliers=list(
            schedule.noise_multipliers if schedule.unit == "sample" else schedule.noise_multipliers[:1]
        ),
        guarantees=[guarantee(schedule, observer) for observer in OBSERVERS],
        attempts=attempts,
        notes=list(notes),
        claimed=None if schedule.claimed is None else _claimed(*schedule.claimed, schedule.unproven),
    )


def _claimed(epsilon: float, delta: float, reason: str) -> Claimed:
    return Claimed(epsilon=epsilon, delta=delta, reason=reason)


@one_thread()
def guarantee(schedule: ReleaseSchedule, observer: Observer) -> Guarantee:
    """What ``observer`` learns at most."""
    found, reason = releases(schedule, observer)
    clients: list[ClientEpsilon] = []
    curve: list[tuple[int, float]] = []
    if not reason and found:
        clients = epsilons(schedule, found)
        curve = _over_rounds(schedule, observer, clients)
    relation: Relation = found[0].relation if found else "zero out one client"
    return Guarantee(
        observer=observer,
        relation=relation,
        proven=not reason,
        reason=reason or _rests_on(schedule, observer, found),
        releases=found,
        clients=clients,
        over_rounds=curve,
    )


_Key = tuple[Count | None, Count | None, float]
"""Everything released, the updates alone, delta: who has the same has the same epsilon."""


def epsilons(schedule: ReleaseSchedule, found: Sequence[Release]) -> list[ClientEpsilon]:
    """Epsilon of every client that releases something of its own, or one entry for all of them."""
    return client_epsilons(found, deltas(schedule))


def client_epsilons(found: Sequence[Release], delta: Mapping[int | None, float]) -> list[ClientEpsilon]:
    """The same at the delta of each client, or at that of None."""
    alike: dict[int | None, _Key] = {}
    for client, mine in by_client(found).items():
        training = counted(release for release in mine if release.name.startswith("updates"))
        alike[client] = counted(mine), training, delta[client if client in delta else None]
    known = _known(list(dict.fromkeys(alike.values())))
    return [known[key].model_copy(update={"client": client}) for client, key in alike.items()]


def _known(keys: Sequence[_Key]) -> dict[_Key, ClientEpsilon]:
    """By RDP, and by PRV and PLD too for whoever may pay most."""
    found = {key: _by_rdp(key) for key in keys}
    largest = 0.0
    for key in sorted(keys, key=lambda key: _rdp(found[key]), reverse=True)[:MOST]:
        if _rdp(found[key]) > largest:
            found[key] = _by_all(found[key], key)
            epsilon = found[key].epsilon
            largest = max(largest, float("inf") if epsilon is None else epsilon)
    return found


def _rdp(entry: ClientEpsilon) -> float:
    return float("inf") if entry.rdp is None else entry.rdp


def _by_rdp(key: _Key) -> ClientEpsilon:
    everything, training, delta = key
    epsilon, alone = (None if count is None else rdp_epsilon(count, delta) for count in (everything, training))
    return ClientEpsilon(client=None, delta=delta, rdp=epsilon, prv=None, training=alone)


def _by_all(entry: ClientEpsilon, key: _Key) -> ClientEpsilon:
    everything, training, delta = key
    numeric = {
        "prv": None if everything is None else prv_epsilon(everything, delta),
        "pld": None if everything is None else pld_epsilon(everything, delta),
    }
    alone = None if training is None else tightest(training, delta)
    return entry.model_copy(update={**numeric, "training": alone})


def _over_rounds(
    schedule: ReleaseSchedule, observer: Observer, clients: Sequence[ClientEpsilon]
) -> list[tuple[int, float]]:
    """(round, largest epsilon of any client so far), by RDP and by the proof that counts for the whole run.

    Who pays most may be another client at every point, and each has a delta of its own. Round 0 is what came before
    training, after all earlier attempts. Points where a client has no bound are left out.
    """
    proof, rounds = best(schedule, proofs(schedule, observer)), len(schedule.rounds)
    points = sorted({round(x) for x in np.linspace(0, rounds, min(rounds, CURVE_POINTS) + 1)})
    steps = {(entry.client, entry.delta): Counter[Mechanism]() for entry in clients}
    curve: list[tuple[int, float]] = []
    for before, number in zip([0, *points], points, strict=False):
        part = schedule.between(before, number)
        new: dict[int | None, list[Release]] = {}
        for release in proofs(part, observer)[proof]:
            new.setdefault(release.client, []).append(release)
        for (client, _), so_far in steps.items():
            count = counted(release for owner in {client, None} for release in new.get(owner, []))
            if count is None:
                return curve
            so_far.update(dict(count))
        spent = {(tuple(sorted(so_far.items())), delta) for (_, delta), so_far in steps.items()}
        epsilons = [rdp_epsilon(count, delta) for count, delta in spent]
        largest = max((epsilon for epsilon in epsilons if epsilon is not None), default=0.0)
        if None not in epsilons:
            curve.append((number, upper_number(largest)))
    return curve


def _rests_on(schedule: ReleaseSchedule, observer: Observer, found: Sequence[Release]) -> str:
    if schedule.unit == "sample":
        return "per-sample clipping and noise inside every honest client; Poisson batches that nobody else knows"
    if schedule.noise == "central":
        rests = "a trusted server that clips, adds the noise and publishes the noised step alone"
    elif observer == "server" and schedule.secure_sum:
        rests = "a secure sum of noised updates; the noise of the honest participants of each round alone is counted"
    elif observer == "another client" and schedule.linear:
        rests = "the noise of the honest participants of each round alone, less that client's own share"
    else:
        rests = "each honest client's own share of the noise"
    if all(release.sampling == "none" for release in found):
        return rests
    own = "nothing but whether it was drawn itself" if observer == "another client" else "nothing"
    return f"{rests}; cohorts of which this observer knows {own}"
