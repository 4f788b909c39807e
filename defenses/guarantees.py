"""What the ledger proves: epsilon of everything released, per client and observer, and over rounds.

Each client's epsilon is known by RDP, which is quick. PRV is tighter and slower: it is asked for the clients who may
pay most, until nobody's RDP is above the largest epsilon found, so that the largest of all is the tighter one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from autoflip_secure.privacy_record import (
    OBSERVERS,
    ClientEpsilon,
    Guarantee,
    Observer,
    PrivacyRecord,
    Relation,
    Release,
)
from defenses.accountants import Count, counted, prv_epsilon, rdp_epsilon
from defenses.privacy_ledger import Schedule, deltas, releases

CURVE_POINTS = 40
"""Points of the curve of epsilon over rounds, at most."""
MOST = 12
"""Different clients for whom PRV is asked, at most; the others' RDP counts."""


def account(schedule: Schedule, attempts: int = 1, notes: tuple[str, ...] = ()) -> PrivacyRecord:
    """The ledger of a run: for every observer, every release and the epsilon of all of them."""
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
    if not reason and found:
        clients = _clients(schedule, found)
        curve = _over_rounds(schedule, observer, max(clients, key=_rdp))
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


def _clients(schedule: Schedule, found: Sequence[Release]) -> list[ClientEpsilon]:
    """Epsilon of every client that releases something of its own, or one entry for all of them."""
    own, delta = {release.client for release in found} - {None}, deltas(schedule)
    alike: dict[int | None, _Key] = {}
    clients: list[int | None] = [*sorted(k for k in own if k is not None)]
    for client in clients or [None]:
        mine = [release for release in found if release.client in (client, None)]
        training = counted(release for release in mine if release.name != "exploration")
        alike[client] = counted(mine), training, delta[client if client in delta else None]
    known = _known(list(dict.fromkeys(alike.values())))
    return [known[key].model_copy(update={"client": client}) for client, key in alike.items()]


def _known(keys: Sequence[_Key]) -> dict[_Key, ClientEpsilon]:
    """By RDP, and by PRV too for whoever may pay most."""
    found = {key: _by_rdp(key) for key in keys}
    largest = 0.0
    for key in sorted(keys, key=lambda key: _rdp(found[key]), reverse=True)[:MOST]:
        if _rdp(found[key]) > largest:
            found[key] = _by_both(found[key], key)
            epsilon = found[key].epsilon
            largest = max(largest, float("inf") if epsilon is None else epsilon)
    return found


def _rdp(entry: ClientEpsilon) -> float:
    return float("inf") if entry.rdp is None else entry.rdp


def _by_rdp(key: _Key) -> ClientEpsilon:
    everything, training, delta = key
    epsilon, alone = (None if count is None else rdp_epsilon(count, delta) for count in (everything, training))
    return ClientEpsilon(client=None, delta=delta, rdp=epsilon, prv=None, training=alone)


def _by_both(entry: ClientEpsilon, key: _Key) -> ClientEpsilon:
    everything, training, delta = key
    epsilon, alone = (None if count is None else prv_epsilon(count, delta) for count in (everything, training))
    best = min((one for one in (entry.training, alone) if one is not None), default=None)
    return entry.model_copy(update={"prv": epsilon, "training": best})


def _over_rounds(schedule: Schedule, observer: Observer, worst: ClientEpsilon) -> list[tuple[int, float]]:
    """(round, epsilon so far) of the client that pays most, by RDP; round 0 is the exploration."""
    one = schedule if worst.client is None else replace(schedule, honest=(worst.client,))
    rounds = len(schedule.rounds)
    curve = []
    for number in sorted({round(x) for x in np.linspace(0, rounds, min(rounds, CURVE_POINTS) + 1)}):
        so_far = replace(one, rounds=schedule.rounds[:number])
        count = counted(releases(so_far, observer)[0])
        epsilon = None if count is None else rdp_epsilon(count, worst.delta)
        if epsilon is not None:
            curve.append((number, ceil(1000 * epsilon) / 1000))
    return curve


def _rests_on(schedule: Schedule, observer: Observer, found: Sequence[Release]) -> str:
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
