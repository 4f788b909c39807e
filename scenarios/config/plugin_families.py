"""The families of plug-ins, and the one place that knows what a kind means: a built-in, an entry point, or a class.

A new family is a line of :data:`FAMILIES`. Built-ins stand in :mod:`.tables` and are asked first, so that
what somebody installs never changes what a scenario means. What comes from outside is imported when a scenario names
it, or when all plug-ins are listed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from re import fullmatch
from typing import Any

from autoflip_secure.defenses.aggregators.flower import adapted
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import (
    Aggregator,
    Attack,
    ClientPrivacy,
    DataAttack,
    LocalRule,
    ParticipationAttack,
    Plugin,
    PreAggregator,
    Pruner,
    RowAttack,
    SampleAttack,
    SeveralAttacks,
    Threat,
)
from autoflip_secure.interfaces.local_rule import HOOKS
from autoflip_secure.scenarios.config import tables
from autoflip_secure.scenarios.data.datasets import DataSource
from autoflip_secure.scenarios.data.partitions import Partition
from autoflip_secure.scenarios.models.chains import Model
from autoflip_secure.scenarios.plugins.entry_points import TARGET, Offer, offers
from autoflip_secure.scenarios.plugins.factories import find
from autoflip_secure.scenarios.plugins.outside import Family, Origin, known, load
from autoflip_secure.scenarios.trackers.base import Tracker
from autoflip_secure.terminal import notes
from autoflip_secure.terminal.near_names import suggest
from autoflip_secure.terminal.visible import short


def _does_nothing(cls: type[Attack]) -> str | None:
    if not issubclass(cls, DataAttack | SampleAttack | ParticipationAttack | RowAttack):
        return (
            f"{cls.__name__} changes nothing; derive it from DataAttack, UpdateAttack, RowAttack, SampleAttack or "
            "ParticipationAttack of autoflip_secure.interfaces"
        )
    if cls.threat is Attack.threat or not isinstance(cls.threat, Threat):
        return (
            f"{cls.__name__} does not say what it knows; set `threat: ClassVar[Threat] = Threat('rows', ('update',))`, "
            "or what is true of it"
        )
    return None


def _claims_linear(cls: type[Aggregator]) -> str | None:
    """Secure sums and privacy proofs compute the mean themselves where an aggregator says that it is one."""
    if not cls.linear:
        return None
    return (
        f"{cls.__name__} has linear = True, which makes proofs and secure sums take it for the built-in mean; set "
        "`linear: ClassVar[bool] = False`"
    )


def _hides_nothing(cls: type[ClientPrivacy]) -> str | None:
    if getattr(cls, "unit", None) in ("sample", "client"):
        return None
    return f"{cls.__name__} has no unit; set `unit: ClassVar[Literal['sample', 'client']]` to what it hides"


def _rules_nothing(cls: type[LocalRule]) -> str | None:
    if any(getattr(cls, hook) is not getattr(LocalRule, hook) for hook in HOOKS):
        return None
    return f"{cls.__name__} changes nothing; override one of {', '.join(HOOKS)}"


FAMILIES: dict[str, Family] = {
    family.key: family
    for family in (
        Family("attack", "attacks", Attack, tables.ATTACKS, _does_nothing),
        Family("aggregator", "aggregators", Aggregator, tables.AGGREGATORS, _claims_linear, adapted),
        Family("pre_aggregator", "pre_aggregators", PreAggregator, tables.PRE_AGGREGATORS),
        Family("pruner", "pruners", Pruner, tables.PRUNERS),
        Family("local_rule", "local_rules", LocalRule, tables.LOCAL_RULES, _rules_nothing),
        Family("data", "datasets", DataSource, tables.DATASETS),
        Family("partition", "partitions", Partition, tables.PARTITIONS),
        Family("model", "models", Model, tables.MODELS),
        Family("privacy", "privacy", ClientPrivacy, tables.PRIVACY, _hides_nothing),
        Family("tracker", "trackers", Tracker, tables.TRACKERS),
    )
}
"""By the key that a scenario (or the command line) writes."""


class UnknownKindError(InputError):
    """Nobody offers it."""


def outside(key: str, kind: str, place: str) -> type | None:
    """The class from outside that ``kind`` means in a family; None: it is a built-in.

    Args:
        key: of the family.
        kind: a built-in's, an entry point's name, or ``package.module:Class``.
        place: how messages begin; the kind is added.

    Raises:
        UnknownKindError: there is no such kind; lists those that there are.
        InputError: what it names cannot be imported or used, or several distributions offer it.
    """
    family, found = FAMILIES[key], offers().called(kind)
    if kind in family.builtin:
        for offer in found:
            notes.once(f"{offer.distribution} also offers {kind!r}; {_not_the_builtin(offer)}")
        return None
    place = f"{place} = {short(repr(kind))}"
    if fullmatch(TARGET, kind):
        return load(family, Origin(key, kind, kind), place)
    if ":" in kind:
        raise InputError(f"{place}: should be package.module:Class, as in 'my_package.attacks:SignFlip'")
    if not found:
        kinds = {*family.builtin, *(one.kind for one in survey().good if one.family == key)}
        raise UnknownKindError(f"unknown kind '{short(kind)}'; {suggest(kind, kinds)}")
    if len(found) > 1:
        raise InputError(f"{place}: {_offered_twice(found)}")
    return _load(family, found[0], f"{place} (of {found[0].distribution})")


@dataclass(frozen=True)
class Installed:
    """A plug-in that an entry point offers."""

    family: str
    kind: str
    cls: type
    distribution: str


@dataclass(frozen=True)
class Survey:
    """All entry points, imported: plug-ins, and what is none."""

    good: tuple[Installed, ...]
    damaged: dict[str, str]  # entry point and distribution -> why, and the way out


def survey() -> Survey:
    """Import what every entry point names; a damaged one is named, and is in nobody's way."""
    return _survey(tuple(sys.path))


@lru_cache(maxsize=8)
def _survey(path: tuple[str, ...]) -> Survey:
    good, damaged = [], dict(offers().damaged)
    for offer in offers().good:
        try:
            good.append(_surveyed(offer))
        except InputError as error:
            damaged[f"{offer.name} of {offer.distribution}"] = str(error).partition(": ")[2]
    return Survey(tuple(good), damaged)


def installed(key: str) -> dict[str, type[Plugin]]:
    """Kind -> class of a family's plug-ins, built-in and from entry points; damaged ones are left out."""
    own: dict[str, Any] = {**FAMILIES[key].builtin}
    return own | {one.kind: one.cls for one in survey().good if one.family == key}


def _surveyed(offer: Offer) -> Installed:
    place = offer.name
    if len(same := offers().called(offer.name)) > 1:
        raise InputError(f"{place}: {_offered_twice(same)}")
    cls: Any = _uninstalling(offer, lambda: find(place, offer.target))
    families = [one for one in FAMILIES.values() if isinstance(cls, type) and issubclass(cls, one.base)]
    if not families:
        bases = ", ".join(f"{one.base.__name__} ({one.key})" for one in FAMILIES.values())
        raise InputError(f"{place}: {offer.target} is no subclass of {bases}; derive it from one of them")
    family = families[0]
    if offer.name in family.builtin:
        raise InputError(f"{place}: is the kind of a built-in {family.key}; {_not_the_builtin(offer)}")
    return Installed(family.key, offer.name, _load(family, offer, place), offer.distribution)


def _load(family: Family, offer: Offer, place: str) -> type:
    origin = Origin(family.key, offer.name, offer.target, offer.distribution)
    found: type = _uninstalling(offer, lambda: load(family, origin, place))
    return found


def _uninstalling(offer: Offer, do: Any) -> Any:
    """What ``do`` gives; what it complains of has a second way out."""
    try:
        return do()
    except InputError as error:
        raise InputError(f"{error}; or update {offer.package}, or uninstall it") from error


def _not_the_builtin(offer: Offer) -> str:
    return f"the built-in is meant by that name; write kind: '{offer.target}' for the other"


def _offered_twice(found: list[Offer]) -> str:
    who = " and ".join(offer.distribution for offer in found)
    return f"{who} all offer it; write one of " + ", ".join(repr(offer.target) for offer in found)


def class_of(key: str, kind: str) -> type | None:
    """The class that messages are about: of a family's entry from outside that was made before, or in a list.

    Args:
        key: of the family, or ``before``, where pre-aggregators stand.
        kind: as it is written.
    """
    if key == "before":
        return tables.PRE_AGGREGATORS.get(kind) or known("pre_aggregator", kind)
    return known(key, kind)


def in_settings(settings: Any) -> Iterator[tuple[str, Plugin]]:
    """Key path -> plug-in of one cell's settings, for every family."""
    for key in FAMILIES:
        for path, holder in ((key, settings), (f"algorithm.{key}", settings.algorithm)):
            part = getattr(holder, key, None)
            if isinstance(part, SeveralAttacks):
                yield from ((f"{path}.{number}", one) for number, one in enumerate(part.parts))
            elif isinstance(part, Plugin):
                yield path, part
                for place, one in enumerate(part.before if isinstance(part, Aggregator) else ()):
                    yield f"{path}.before.{place}", one
