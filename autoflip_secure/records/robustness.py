r"""What one run says of its robustness beside the outcome, from its record alone: one definition for all who state it.

.. math::
    \text{trust amplification} = \frac{\sum_t \big(\sum_{k \in B_t} \omega_k / \sum_k \omega_k\big)}
    {\sum_t |B_t| / n_t}

over the rounds :math:`t` in which anybody is trusted, with :math:`\omega_k` the trust that the aggregator gave client
:math:`k`, :math:`B_t` the participants that misbehaved in the round and :math:`n_t` all participants, those whose
update was left out included. Above 1 the aggregator works for the malicious clients; who weighs everybody alike has 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any, NamedTuple

from autoflip_secure.records.run import RoundRecord, RunRecord

LAST = 10
"""Rounds, from the end, whose evaluations make the late accuracy and its spread."""
DURABLE = 0.5
"""Attack success rate from which a backdoor counts as there."""
BY_COORDINATE = ("median", "trimmed_mean", "meamed")
"""Aggregators that choose coordinate by coordinate: no client has one weight, and their trust is even by convention."""


class LateAccuracy(NamedTuple):
    """Test accuracy in the last :data:`LAST` rounds, in [0, 1]."""

    mean: float
    spread: float | None  # sample standard deviation between the evaluations; None: there is one


def late_accuracy(record: RunRecord) -> LateAccuracy | None:
    """Over the evaluations of the last rounds; None for a record without evaluated rounds."""
    first = record.rounds[-1].round - LAST + 1 if record.rounds else 0
    found = [e.test_accuracy for e in record.rounds if e.round >= first and e.test_accuracy is not None]
    return LateAccuracy(fmean(found), stdev(found) if len(found) > 1 else None) if found else None


def worst_class(record: RunRecord) -> float | None:
    """Accuracy of the global model on the class that it knows worst, at the end; None: an earlier version's record."""
    return None if record.classes is None else record.classes.worst


def attacked_class(attack: Mapping[str, Any] | None) -> int | None:
    """The class that a targeted attack of a run is on, from a cell's configuration; None: there is no such attack."""
    found = [one.get("of", 0) for one in parts_of(attack) if one.get("kind") == "dirty_label" and one.get("share") != 0]
    return int(found[0]) if found else None


def class_accuracy(record: RunRecord, number: int | None) -> float | None:
    """Accuracy of the global model on one class at the end; None: not tested, or an earlier version's record."""
    known = [] if record.classes is None else record.classes.accuracy
    return known[number] if number is not None and number < len(known) else None


def trust_amplification(record: RunRecord) -> float | None:
    """Share of the trust that malicious clients hold over their share of the rows; None: no row of theirs, or no trust
    that is a client's."""
    algorithm = record.config.get("algorithm")
    aggregator = algorithm.get("aggregator") if isinstance(algorithm, Mapping) else None
    if isinstance(aggregator, Mapping) and aggregator.get("kind") in BY_COORDINATE:
        return None
    held = rows = 0.0
    for entry in record.rounds:
        total = sum(entry.trust)
        if total > 0:
            held += sum(t for t, lies in zip(entry.trust, entry.malicious, strict=True) if lies) / total
            rows += fmean(entry.malicious)
    return held / rows if rows else None


def has_majority(entry: RoundRecord) -> bool:
    """Whether at least half of the participants of a round misbehave in it."""
    return 2 * sum(entry.malicious) >= len(entry.participants) > 0


class Durability(NamedTuple):
    """What follows the last round in which a backdoor was trained."""

    rounds: int | None  # until its success was below one half; 0: it was so already; None: not within the run
    watched: int  # rounds that follow


def durability(record: RunRecord) -> Durability | None:
    """Rounds from the last in which the backdoor acts to the first evaluation with a success below :data:`DURABLE`.

    0 where the last evaluation while it acted was below already. None where nothing is to be seen: no backdoor, nobody
    malicious, no round after its window, or none that was evaluated.
    """
    if record.backdoor is None or not record.malicious_clients or not record.rounds:
        return None
    parts = parts_of(record.config.get("attack"))
    own = [one for one in parts if one.get("kind") == "backdoor"] or parts
    acting = [e.round for e in record.rounds if any(in_window(one.get("window") or {}, e.round) for one in own)]
    last, end = max(acting, default=0), record.rounds[-1].round
    known = [(entry.round, entry.attack_success) for entry in record.rounds if entry.attack_success is not None]
    if not any(number > last for number, _ in known):
        return None
    while_acting = [success for number, success in known if number <= last][-1:]
    if while_acting and while_acting[0] < DURABLE:
        return Durability(0, end - last)
    gone = next((number for number, success in known if number > last and success < DURABLE), None)
    return Durability(None if gone is None else gone - last, end - last)


def parts_of(attack: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The attacks of a run, from a cell's configuration: one, or those that it is composed of."""
    return list((attack or {}).get("attacks") or ([attack] if attack else []))


def in_window(window: Mapping[str, Any], number: int) -> bool:
    """Whether a window, as a cell's configuration has it, holds this round, from 1."""
    first, last, period = window.get("first") or 1, window.get("last"), window.get("period")
    if number < first or (last is not None and number > last):
        return False
    return period is None or (number - first) % int(period) < int(window.get("acting", 1))


def acting_clients(attack: Mapping[str, Any] | None, number: int, clients: int) -> int | None:
    """How many of the clients misbehave in this round if they take part, from the configuration.

    Attacks with a share of the clients have the same ones, the larger share those of the smaller. None: it cannot be
    told, since some clients are drawn and others named.
    """
    active = [one for one in parts_of(attack) if in_window(one.get("window") or {}, number)]
    drawn = max((round(one.get("scope", 0) * clients) for one in active if one.get("clients") is None), default=0)
    named = {client for one in active for client in one.get("clients") or ()}
    return None if drawn and named else drawn or len(named)
