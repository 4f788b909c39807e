"""The parts of a defence as plain data: which are of this package, and what those need.

Nothing here imports what an algorithm names from outside: it may come from an entry that a stranger wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from autoflip_secure.errors import AutoflipError
from autoflip_secure.interfaces import Attack
from autoflip_secure.records.newer_keys import without_newer
from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.threats import ThreatRecord
from autoflip_secure.scenarios.catalogue.capabilities import needs_of
from autoflip_secure.scenarios.config.families import AlgorithmConfig
from autoflip_secure.scenarios.config.tables import AGGREGATORS, ATTACKS, LOCAL_RULES, PRE_AGGREGATORS, PRUNERS

_NEUTRAL = {"pruner": "none", "aggregator": "mean", "local_rule": "none"}
_TABLES: Mapping[str, Mapping[str, Any]] = {
    "pruner": PRUNERS, "aggregator": AGGREGATORS, "local_rule": LOCAL_RULES,
}  # fmt: skip


@dataclass(frozen=True)
class Outside:
    """Parts of a defence whose code is not of this package."""

    named: list[str]  # "aggregator my_rules:Mine"
    kinds: list[str]
    stand_in: dict[str, Any]  # the defence with something neutral in their place: it meets what the others bring about


def outside(algorithm: Mapping[str, Any]) -> Outside:
    """Which parts of a defence, as a run's configuration has it, are from outside."""
    kinds: list[tuple[str, str]] = []
    stand_in = {key: value for key, value in algorithm.items() if key in ("name", *_TABLES)}
    for key, table in _TABLES.items():
        part = algorithm.get(key)
        part = part if isinstance(part, Mapping) else {"kind": _NEUTRAL[key]}
        kind = str(part.get("kind", ""))
        written = part.get("before")
        before = [one for one in written if isinstance(one, Mapping)] if isinstance(written, list) else []
        foreign = [one for one in before if str(one.get("kind", "")) not in PRE_AGGREGATORS]
        kinds += [("pre-aggregator", str(one.get("kind", ""))) for one in foreign]
        if kind not in table:
            kinds.append((key.replace("_", " "), kind))
            part = {"kind": _NEUTRAL[key]}
        kept = [one for one in before if one not in foreign]
        stand_in[key] = {**{k: v for k, v in part.items() if k != "before"}, **({"before": kept} if kept else {})}
    return Outside([f"{what} {kind}" for what, kind in kinds], [kind for _, kind in kinds], stand_in)


def is_algorithm(algorithm: Mapping[str, Any]) -> bool:
    """Whether a defence is written as a run has it: its parts by kind, whatever their options."""
    parts = [algorithm.get(key, {"kind": "none"}) for key in _TABLES]
    parts += [*before] if isinstance(before := _inner(parts[1], "before", []), list) else [None]
    return set(algorithm) <= {"name", *_TABLES} and all(isinstance(_inner(one, "kind"), str) for one in parts)


def _inner(part: Any, key: str, default: Any = None) -> Any:
    return part.get(key, default) if isinstance(part, Mapping) else None


def needs(algorithm: Mapping[str, Any]) -> dict[str, str]:
    """Heading -> what a defence needs, from its classes: those from outside are imported."""
    try:
        config = AlgorithmConfig.model_validate(dict(algorithm))
    except (AutoflipError, ValidationError):
        return {"needs": "not known: its code is not here"}
    found = needs_of(config.aggregator)
    for one in config.aggregator.before:
        found |= {key: text for key, text in needs_of(one).items() if key in ("needs", "assumes", "memory")}
    return found


def is_attack(config: Mapping[str, Any]) -> bool:
    """Whether an attack of this package has the options that it has in a run; of others nothing is known."""
    cls = ATTACKS.get(str(config.get("kind", "")))
    if cls is None:
        return True
    try:
        written = cls.model_validate(dict(config)).model_dump(mode="json")
        return bool(without_newer({"attack": written})["attack"] == config)
    except ValidationError:
        return False


def cards(config: Mapping[str, Any], record: RunRecord | None) -> ThreatRecord | None:
    """The threat card of an attack: of one of this package by its class, else as its run says; None: nobody knows."""
    kind = str(config.get("kind", ""))
    cls = ATTACKS.get(kind)
    if cls is not None and issubclass(cls, Attack):
        card = cls.model_validate(dict(config)).threat_card
        return ThreatRecord(
            kind=kind, knowledge=card.knowledge, means=list(card.means), goal=card.goal, memory=card.memory
        )
    if record is not None and record.threats:
        return record.threats[0]
    return ThreatRecord(kind=kind, knowledge="own", means=[], goal="untargeted", memory=False) if record else None
