"""What a ledger proves, in one piece: an epsilon never appears without its observer, its neighbours and its delta.

.. math:: P[M(D) \\in S] \\le e^\\epsilon P[M(D') \\in S] + \\delta

for every S that the observer could see and all neighbours D, D' (Dwork and Roth 2014, definition 2.4). Numbers of two
bounds can be compared only where observer, relation and delta are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from autoflip_secure.records.privacy import Guarantee, Observer, PrivacyRecord, Relation
from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.terminal.counting import listed

_SEES_MOST = {"server": 0, "another client": 1, "public": 2}
_NAMES = {"server": "the server", "public": "the public"}


@dataclass(frozen=True)
class Bound:
    """(epsilon, delta) against one observer under one relation, for every honest client.

    Where clients have a delta of their own, both numbers are the largest of any client: less than what is proven for
    each, and true of all.
    """

    observer: Observer
    relation: Relation
    epsilon: float
    delta: float
    secret: str = ""  # what the bound rests on the observer not knowing: "cohorts", "batches", or nothing

    @property
    def terms(self) -> str:
        """Against whom, for which neighbours, at which delta."""
        return f"against {who(self.observer)}, neighbours: {self.relation}, δ = {upper_delta(self.delta)}"

    def __str__(self) -> str:
        return f"ε ≤ {upper_text(self.epsilon)} {self.terms}"


def who(observer: str) -> str:
    """An observer as the object of a sentence.

    >>> who("server"), who("another client")
    ('the server', 'another client')
    """
    return _NAMES.get(observer, observer)


def silent(guarantee: Guarantee) -> bool:
    """Whether nothing was released that the observer could see."""
    return guarantee.proven and not guarantee.clients


def pays_most(guarantee: Guarantee, name: Callable[[int], str] = str) -> str:
    """Who has the largest epsilon, as a clause; "" where clients are not told apart, or all alike."""
    most = max((entry.epsilon or 0.0 for entry in guarantee.clients), default=0.0)
    found = [entry.client for entry in guarantee.clients if (entry.epsilon or 0.0) == most]
    if not found or found[0] is None or 1 < len(found) == len(guarantee.clients):
        return ""
    first = f"client {name(found[0])}"
    return f"{first} pays most" if len(found) == 1 else f"{first} and {len(found) - 1} more pay most"


def bound(guarantee: Guarantee) -> Bound | None:
    """What holds against one observer; None: nothing is proven, no bound is finite, or nothing was released."""
    values = [client.epsilon for client in guarantee.clients]
    known = [value for value in values if value is not None and isfinite(value)]
    if not guarantee.proven or not values or len(known) < len(values):
        return None
    return Bound(
        observer=guarantee.observer,
        relation=guarantee.relation,
        epsilon=max(known),
        delta=max(client.delta for client in guarantee.clients),
        secret=secret(guarantee),
    )


def secret(guarantee: Guarantee) -> str:
    """What amplifies the guarantee as long as the observer does not know it: "cohorts", "batches", or ""."""
    if not any(release.sampling != "none" and release.rate < 1 for release in guarantee.releases):
        return ""
    return "batches" if "sample" in guarantee.relation else "cohorts"


def bounds(record: PrivacyRecord | None) -> list[Bound]:
    """What is proven about a run, first against the observer who sees most."""
    found = [one for g in record.guarantees if (one := bound(g)) is not None] if record is not None else []
    return sorted(found, key=lambda one: _SEES_MOST.get(one.observer, len(_SEES_MOST)))


def foremost(record: PrivacyRecord | None) -> Bound | None:
    """The bound against the observer who sees most, of those against whom there is one."""
    return next(iter(bounds(record)), None)


def weakest(found: Sequence[Bound]) -> Bound:
    """One bound that is true of all ``found``, which are of one observer and relation: the largest of both numbers."""
    first = found[0]
    assert all((b.observer, b.relation) == (first.observer, first.relation) for b in found)
    return Bound(
        observer=first.observer,
        relation=first.relation,
        epsilon=max(b.epsilon for b in found),
        delta=max(b.delta for b in found),
        secret=next((b.secret for b in found if b.secret), ""),
    )


def unprotected(record: PrivacyRecord) -> list[Observer]:
    """The observers against whom nothing is proven, or no bound is finite."""
    return [g.observer for g in record.guarantees if bound(g) is None and (g.clients or not g.proven)]


def no_guarantee(records: Iterable[PrivacyRecord | None]) -> str:
    """What runs do not promise, for their name: "no guarantee", "no guarantee against the server", or "".

    What one of several runs does not promise, they do not. A run without a ledger is not called private by its name
    either, so nothing is said of it.
    """
    known = [record for record in records if record is not None]
    asked = dict.fromkeys(g.observer for record in known for g in record.guarantees)
    return lack({observer for record in known for observer in unprotected(record)}, asked)


def lack(lacking: Collection[Observer], asked: Collection[Observer]) -> str:
    """That there is no guarantee against some of the observers that a ledger knows, in words.

    >>> lack({"server"}, ["server", "public"]), lack({"server", "public"}, ["server", "public"]), lack([], ["server"])
    ('no guarantee against the server', 'no guarantee', '')
    """
    if not lacking:
        return ""
    if len(lacking) == len(asked):
        return "no guarantee"
    return f"no guarantee against {listed([who(observer) for observer in asked if observer in lacking])}"


def above_target(record: PrivacyRecord | None, target: float | None) -> list[Bound]:
    """The bounds that are above the epsilon that was asked for: a run that was begun more than once can end there."""
    return [one for one in bounds(record) if target is not None and one.epsilon > target]
