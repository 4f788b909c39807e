"""A study by the levels of what its scenario compares: epsilons, secure sums on and off, attacks, values of any axis.

It is a :class:`.Study` whose "algorithms" are the levels, and whose facets have the algorithm in them, so that all that
compares algorithms compares levels: paired over seeds, with everything else the same. Conditions are averaged within a
*stratum* alone, which is all but partition and attack: one algorithm, one setting, so never over epsilons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.compared import ALGORITHM, ATTACK, PRIVACY, SECURE_SUM
from autoflip_secure.records.configs import leaves, without, without_paths
from autoflip_secure.records.privacy import PrivacyRecord
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.parts import (
    OF_ALGORITHM,
    asked,
    attack_of,
    attack_order,
    facet_labels,
    facet_order,
    lack_of,
    lacking,
    natural,
    usual,
    variant_of,
)
from autoflip_secure.reports.study.privacy import NO_PRIVACY, protection
from autoflip_secure.reports.study.study import Study

_WORDS = {
    PRIVACY: "privacy",
    SECURE_SUM: "secure sums",
    ATTACK: "attacks",
    ALGORITHM: "algorithms",
    "exploration.every": "exploring again",
}


class _Part(NamedTuple):
    """A record, taken apart: the level, and what has to be equal for a comparison."""

    at: int  # in the records of the study
    level: Any
    facet: dict[str, Any]
    variant: dict[str, Any]
    attack: dict[str, Any]

    @property
    def stratum(self) -> str:
        return canonical([self.variant, without(self.facet, "partition")])


def factor_words(path: str) -> str:
    """What is compared, in words.

    >>> factor_words("secure_sum"), factor_words("exploration.explorers"), factor_words("algorithm.pruner.threshold")
    ('secure sums', 'explorers', 'T_p')
    """
    return _WORDS.get(path) or labels.setting(path)


def against_words(study: Study) -> str:
    """The reference behind "against" and "of": ``runs in the open``, ``FedAvg``."""
    known = {
        labels.OPEN: "runs in the open",
        NO_PRIVACY: "runs without privacy",
        labels.NO_ATTACK: "runs without attack",
    }
    return known.get(str(study.baseline), str(study.baseline))


def level_title(path: str) -> str:
    """The same above a column of levels."""
    words = {SECURE_SUM: "sums", ATTACK: "attack", ALGORITHM: "algorithm"}.get(path, factor_words(path))
    return labels.capital(words)


def by_level(study: Study, path: str) -> Study | None:
    """``study`` by the levels of ``path``; None: its runs have fewer than two. Runs that have no level are left out.

    The reference is the level without anything: no privacy, in the open, no attack; of another setting the smallest,
    and among words the default.
    """
    if path == ALGORITHM:
        return replace(study, strata=_by_privacy(study)) if len(study.algorithms) > 1 else None
    parts = [part for index, record in enumerate(study.records) if (part := _part(index, record, path)) is not None]
    found = {canonical(part.level): part.level for part in parts}
    if len(found) < 2:
        return None
    parts = _followed(parts) if path == PRIVACY else parts
    names = _level_names(study, path, parts)
    order = sorted(found, key=lambda key: _level_order(path, found[key]))
    lacks = lacking(
        [study.records[part.at] for part in parts],
        [canonical(part.facet) for part in parts],
        [labels.pretty(part.variant["family"]) for part in parts],
    )
    units = _unit_names(parts, lacks)
    attacks = labels.label_all([part.attack for part in parts], labels.attack_label)
    cells = study.cells.iloc[[part.at for part in parts]].reset_index(drop=True)
    facets = [units[_unit(part)] for part in parts]
    cells = cells.assign(
        algorithm=[names[canonical(part.level)] for part in parts],
        facet=facets,
        attack=["" if path == ATTACK else attacks[canonical(part.attack)] for part in parts],
        clean=[path == ATTACK or labels.is_clean(part.attack) for part in parts],
    )
    by_unit = {units[_unit(part)]: part for part in sorted(parts, key=lambda p: _unit_order(study, p))}
    levels = [names[key] for key in order]
    known = {attacks[canonical(part.attack)]: part.attack for part in parts}
    return replace(
        study,
        records=[study.records[part.at] for part in parts],
        cells=cells,
        algorithms=levels,
        families={level: level for level in levels},
        variants={names[key]: leaves({path: found[key]}) for key in order},
        facets={name: {**part.facet, "algorithm": part.variant["settings"]} for name, part in by_unit.items()},
        attacks={"": {"kind": "none"}}
        if path == ATTACK
        else dict(sorted(known.items(), key=lambda i: attack_order(i[1]))),
        compared=path,
        reference=levels[0],
        strata=_strata({name: part.facet for name, part in by_unit.items()}, lacks, _who(by_unit)),
    )


def outside(study: Study, other: Study) -> list[str]:
    """Algorithms of ``study`` of which no run is in ``other``: they have no level of what is compared."""
    there = {record.cell for record in other.records}
    seen = {row.algorithm for row, record in study.rows if record.cell in there}
    return [algorithm for algorithm in study.algorithms if algorithm not in seen]


def _part(index: int, record: RunRecord, path: str) -> _Part | None:
    """The parts of a run; None: it has no level."""
    config, variant = asked(record), variant_of(record)
    attack = attack_of(record.config)
    facet = without(config, "name", "seed", "attack", *OF_ALGORITHM)
    if path == ATTACK:
        return _Part(index, attack, facet, variant, {"kind": "none"})
    if path in (PRIVACY, SECURE_SUM):
        level = config.get(path)
        bare = not level or level.get("kind") == "none"
        return _Part(index, None if bare else level, without(facet, path), variant, attack)
    if path.startswith("attack."):  # of no strength it is a level too, the one that others are compared with
        attack = dict(config.get("attack") or attack)
    places = places_of(path)
    whole = {**facet, **variant["settings"], "attack": attack}
    level = (
        record.axes[path]
        if path in record.axes
        else next((v for p in places if (v := _at(whole, p)) is not None), None)
    )
    if level is None and not any(_has(whole, place) for place in places):
        return None
    if not any(_has(whole, place) for place in places):
        return None  # the axis is set, and the algorithm has no use for it
    rest = without_paths(variant["settings"], places)
    return _Part(
        index, level, without_paths(facet, places), {**variant, "settings": rest},
        without_paths({"attack": attack}, places).get("attack", {"kind": "none"}),
    )  # fmt: skip


def places_of(path: str) -> list[str]:
    """Where a configuration may have the setting: a random pruner has those of the one that it imitates."""
    return list(dict.fromkeys((path, path.replace(".pruner.", ".pruner.like."))))


def _at(config: Mapping[str, Any], path: str) -> Any:
    here: Any = config
    for key in path.split("."):
        if not isinstance(here, Mapping) or key not in here:
            return None
        here = here[key]
    return here


def _has(config: Mapping[str, Any], path: str) -> bool:
    above, _, key = path.rpartition(".")
    place = _at(config, above) if above else config
    return isinstance(place, Mapping) and key in place


def _followed(parts: list[_Part]) -> list[_Part]:
    """How cohorts are drawn is part of a privacy setting, where it follows from it."""
    drawn: dict[str, set[str]] = {}
    for part in parts:
        drawn.setdefault(canonical(part.level), set()).add(str(part.facet.get("sampling")))
    if any(len(found) > 1 for found in drawn.values()):
        return parts
    return [part._replace(facet=without(part.facet, "sampling")) for part in parts]


def _level_names(study: Study, path: str, parts: Sequence[_Part]) -> dict[str, str]:
    """Canonical level -> label."""
    ledgers: dict[str, dict[str, list[PrivacyRecord]]] = {}
    for part in parts if path == PRIVACY else ():
        ledger = study.records[part.at].privacy
        if ledger is not None:
            ledgers.setdefault(canonical(part.level), {}).setdefault(part.variant["family"], []).append(ledger)
    lacks = {level: lack_of(found) for level, found in ledgers.items()}

    def words(wrapped: dict[str, Any]) -> str:
        level = wrapped[path]
        if path == PRIVACY:
            return protection(level, lacks.get(canonical(level), ""))
        if path in (SECURE_SUM, ATTACK):
            return labels.passage(level) if path == SECURE_SUM else labels.attack_label(level)
        return _setting(path, level)

    found = labels.label_all([{path: part.level} for part in parts], words)
    return {canonical(part.level): found[canonical({path: part.level})] for part in parts}


def _setting(path: str, level: Any) -> str:
    """``explorers 5``; of a component its name."""
    if isinstance(level, Mapping):
        return labels.pretty(str(level.get("name") or level.get("kind") or labels.setting(path)))
    return labels.level(path, level)


def _level_order(path: str, level: Any) -> tuple[Any, ...]:
    """The reference first; then the weakest privacy first, attacks and other settings by kind and strength."""
    if path == ATTACK:
        return attack_order(level)
    if level is None:
        return (0,)
    if path == PRIVACY:
        kind = (str(level.get("kind")), str(level.get("noise")))
        return (
            1,
            *kind,
            -float(level.get("target_epsilon") or 0),
            float(level.get("noise_multiplier") or 0),
            natural(level),
        )
    return (1, isinstance(level, str) and level != usual(path), natural({"": level}))


def _unit(part: _Part) -> str:
    return canonical([part.variant, part.facet])


def _unit_names(parts: Sequence[_Part], lacks: Mapping[str, str]) -> dict[str, str]:
    """Algorithm and facet of a part -> its label."""
    who = labels.label_all([part.variant for part in parts], lambda variant: labels.pretty(variant["family"]))
    where = facet_labels([part.facet for part in parts], lacks)
    named = {}
    for part in parts:
        words = [who[canonical(part.variant)]] + ([where[canonical(part.facet)]] if len(where) > 1 else [])
        named[_unit(part)] = " · ".join(words)
    return named


def _unit_order(study: Study, part: _Part) -> tuple[Any, ...]:
    families = list(dict.fromkeys(study.families.values()))
    return (families.index(part.variant["family"]), natural(part.variant["settings"]), facet_order(part.facet))


def _who(units: Mapping[str, _Part]) -> dict[str, str]:
    """Label of a unit -> its algorithm."""
    names = labels.label_all([part.variant for part in units.values()], lambda v: labels.pretty(v["family"]))
    return {unit: names[canonical(part.variant)] for unit, part in units.items()}


def _strata(facets: Mapping[str, dict[str, Any]], lacks: Mapping[str, str], who: Mapping[str, str]) -> dict[str, str]:
    """Label of a unit -> label of its stratum: what its conditions have in common and others have not."""
    settings = {name: without(facet, "partition") for name, facet in facets.items()}
    lacking_there = {canonical(settings[name]): lacks.get(canonical(facet), "") for name, facet in facets.items()}
    where = facet_labels(list(settings.values()), lacking_there)
    found = {}
    for name in facets:
        words = [who[name]] if len(set(who.values())) > 1 else []
        words += [where[canonical(settings[name])]] if len(where) > 1 else []
        found[name] = " · ".join(words)
    return found


def _by_privacy(study: Study) -> dict[str, str]:
    """Where runs are private, facets that differ in more than their split are apart: a mean is over one epsilon."""
    if all((facet.get(PRIVACY) or {}).get("kind") in (None, "none") for facet in study.facets.values()):
        return {}
    runs = list(study.rows)
    lacks = lacking(
        [record for _, record in runs],
        [canonical(study.facets[row.facet]) for row, _ in runs],
        [row.algorithm for row, _ in runs],
    )
    return _strata(study.facets, lacks, dict.fromkeys(study.facets, ""))
