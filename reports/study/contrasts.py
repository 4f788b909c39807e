r"""Effects of several factors that a sweep crosses, and how they depend on each other, paired by seed.

An effect is a difference of runs that differ in one factor, an interaction a difference of two such differences:

.. math::
    e_s(F) = \overline{y_s(F{=}v) - y_s(F{=}0)}, \qquad
    i_s(F, G) = \overline{[y_s(v, w) - y_s(0, w)] - [y_s(v, 0) - y_s(0, 0)]}

per seed :math:`s`, averaged over the levels of the *other* factors and over whatever else varies (splits, algorithms,
settings that nobody asks about), but never over attacks or settings of privacy: each of these has an effect of its own.
Effects are one family, interactions another (:func:`.corrected`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.compared import ALGORITHM, ATTACK, PRIVACY
from autoflip_secure.records.configs import without_paths
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.paired import Paired, complete, paired
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.levels import by_level, factor_words, places_of
from autoflip_secure.reports.study.parts import OF_ALGORITHM, variant_of
from autoflip_secure.reports.study.study import Study

PRUNING, SCORES = "pruning", "scores"
Levels = Mapping[str, str]  # factor -> level
Table = dict[tuple[str, ...], dict[int, float]]  # a level of every factor, the attack, the rest -> seed -> accuracy


@dataclass(frozen=True)
class Effect:
    """One contrast. ``by`` is empty for an effect of ``factor`` alone."""

    factor: str  # "scores"
    level: str  # that is compared with the reference: "agreement"
    reference: str
    by: str  # the factor that it may depend on, or "attack"
    by_level: str
    attack: str  # where it is measured; "" where the attack is what it may depend on
    privacy: str  # the same; "" too where the sweep has one setting of it
    pairs: int  # differences that are averaged, per seed
    against: Paired

    @property
    def name(self) -> str:
        """``scores``, or ``scores × privacy``."""
        return f"{self.factor} × {self.by}" if self.by else self.factor

    @property
    def where(self) -> str:
        """Attack and privacy under which it was measured."""
        return ", ".join(part for part in (self.by_level, self.attack, self.privacy) if part)


@dataclass(frozen=True)
class Effects:
    """All contrasts of a sweep that compares several things."""

    factors: dict[str, list[str]]  # factor -> levels, the reference first
    mains: list[Effect]
    interactions: list[Effect]


def effects(study: Study, paths: Sequence[str]) -> Effects | None:
    """Contrasts of the factors at ``paths``; None: fewer than two of them vary."""
    paths = tuple(dict.fromkeys((*paths, PRIVACY)))  # where it varies, nothing is averaged over it
    coordinates: dict[str, dict[str, str]] = {}  # factor -> cell -> level
    order: dict[str, list[str]] = {}
    for path in paths:
        for factor, (levels, where) in _factors(study, path, paths).items():
            coordinates[factor], order[factor] = where, levels
    if len(order) < 2:
        return None
    order.setdefault(ATTACK, list(study.attacks))
    table: Table = {}
    apart = _apart(study, paths)
    for row, record in study.rows:
        where = {factor: own[record.cell] for factor, own in coordinates.items() if record.cell in own}
        where[ATTACK] = row.attack
        if len(where) == len(order):
            rest = canonical(_rest(study.facets[row.facet], record, apart, named=ALGORITHM in paths))
            table.setdefault((*(where[f] for f in order), rest), {})[row.seed] = study.accuracy(record)
    mains = _judged(_mains(table, order))
    return Effects({f: levels for f, levels in order.items() if len(levels) > 1}, mains, _judged(_pairs(table, order)))


def _factors(study: Study, path: str, paths: Sequence[str]) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Factor -> levels and the level of every cell. Algorithms are taken apart where their parts are crossed."""
    if path == ATTACK:
        return {}  # a factor of every sweep with several
    if path != ALGORITHM:
        found = by_level(study, path)
        if found is None:
            return {}
        return {factor_words(path): (found.algorithms, {r.cell: row.algorithm for row, r in found.rows})}
    names, cells = _algorithms(study, paths)
    parts = {cells[record.cell]: _parts(variant_of(record)["settings"]) for _, record in study.rows}
    pruners, rules = (_ordered([part[i] for part in parts.values()]) for i in (0, 1))
    crossed = len(set(parts.values())) == len(parts) == len(pruners) * len(rules)
    if crossed and len(pruners) > 1 and len(rules) > 1:
        return {
            PRUNING: (pruners, {cell: parts[a][0] for cell, a in cells.items()}),
            SCORES: (rules, {cell: parts[a][1] for cell, a in cells.items()}),
        }
    return {"algorithm": (names, cells)} if len(names) > 1 else {}


def _algorithms(study: Study, paths: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Labels of the algorithms and that of every cell; settings that are factors themselves tell none apart."""
    own = [
        place for path in paths if path.split(".")[0] in OF_ALGORITHM and path != ALGORITHM for place in places_of(path)
    ]
    if not own:
        return study.algorithms, {record.cell: row.algorithm for row, record in study.rows}
    bare = {record.cell: _without_settings(variant_of(record), own) for record in study.records}
    words = labels.label_all(bare.values(), lambda variant: labels.pretty(variant["family"]))
    cells = {cell: words[canonical(variant)] for cell, variant in bare.items()}
    first = {row.algorithm: cells[record.cell] for row, record in study.rows}
    return list(dict.fromkeys(first[algorithm] for algorithm in study.algorithms)), cells


def _without_settings(variant: Mapping[str, Any], places: Sequence[str]) -> dict[str, Any]:
    return {**variant, "settings": without_paths(variant["settings"], places)}


def _parts(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Pruner and aggregator by name; of several settings of one, they are no crossing."""
    algorithm = settings.get("algorithm") or {}
    pruner, rule = ((algorithm.get(key) or {}).get("kind", "none") for key in ("pruner", "aggregator"))
    return ("no pruning" if pruner == "none" else labels.kind_words(str(pruner))), labels.kind_words(str(rule))


def _ordered(names: Sequence[str]) -> list[str]:
    """What does nothing first."""
    return sorted(set(names), key=lambda name: (name not in ("no pruning", "mean"), name))


def _apart(study: Study, paths: Sequence[str]) -> list[str]:
    """Settings that runs which are compared may differ in: those of the factors, and how cohorts are drawn where that
    follows from privacy."""
    drawn: dict[str, set[str]] = {}
    for facet in study.facets.values():
        drawn.setdefault(canonical(facet.get(PRIVACY)), set()).add(canonical(facet.get("sampling")))
    follows = all(len(found) == 1 for found in drawn.values())
    return [place for path in paths for place in places_of(path)] + (["sampling"] if follows else [])


def _rest(facet: Mapping[str, Any], record: RunRecord, apart: Sequence[str], *, named: bool) -> dict[str, Any]:
    """What a run shares with those that it is compared with, the factors apart; ``named``: algorithms are a factor."""
    who = {} if named else _without_settings(variant_of(record), apart)
    return {**without_paths(facet, apart), **who}


def _mains(table: Table, order: Mapping[str, list[str]]) -> Iterator[Effect]:
    for factor, levels in order.items():
        for level in levels[1:]:
            for fixed in _places(order, {factor}):
                signs = [({factor: level}, 1), ({factor: levels[0]}, -1)]
                found = _contrast(table, order, signs, fixed)
                if found is not None:
                    yield _effect(factor, level, levels[0], "", "", fixed, order, found)


def _pairs(table: Table, order: Mapping[str, list[str]]) -> Iterator[Effect]:
    for one, other in combinations(order, 2):
        for level, by in product(order[one][1:], order[other][1:]):
            a, b = order[one][0], order[other][0]
            signs = [({one: level, other: by}, 1), ({one: a, other: by}, -1), ({one: level, other: b}, -1)]
            signs.append(({one: a, other: b}, 1))
            for fixed in _places(order, {one, other}):
                found = _contrast(table, order, signs, fixed)
                if found is not None:
                    yield _effect(one, level, a, other, by, fixed, order, found)


def _places(order: Mapping[str, list[str]], moved: set[str]) -> Iterator[Levels]:
    """Every attack and setting of privacy that is not what the contrast is about."""
    kept = [factor for factor in (ATTACK, factor_words(PRIVACY)) if factor in order and factor not in moved]
    for levels in product(*(order[factor] for factor in kept)):
        yield dict(zip(kept, levels, strict=True))


def _contrast(
    table: Table, order: Mapping[str, list[str]], signs: Sequence[tuple[Levels, int]], fixed: Levels
) -> tuple[Paired, int] | None:
    """The signed sum of cells, per seed the mean over everything that is neither in ``signs`` nor ``fixed``."""
    moved = {*signs[0][0], *fixed}
    free = [[level] if factor in moved else order[factor] for factor in order for level in order[factor][:1]]
    rests = dict.fromkeys(key[-1] for key in table)
    sums: dict[tuple[Any, ...], dict[int, float]] = {}
    for rest in rests:
        for levels in product(*free):
            base = {**dict(zip(order, levels, strict=True)), **fixed}
            cells = [(table.get((*({**base, **own}[f] for f in order), rest), {}), sign) for own, sign in signs]
            seeds = set.intersection(*(set(values) for values, _ in cells))
            if seeds:
                sums[levels, rest] = {s: sum(sign * values[s] for values, sign in cells) for s in sorted(seeds)}
    used, seeds_used = complete(sums)
    if not used:
        return None
    means = {s: sum(sums[key][s] for key in used) / len(used) for s in seeds_used}
    pair = paired(means, dict.fromkeys(means, 0.0), same_runs=True)
    return None if pair is None else (pair, len(used))


def _effect(
    factor: str, level: str, reference: str, by: str, by_level: str, fixed: Levels, order: Mapping[str, list[str]],
    found: tuple[Paired, int],
) -> Effect:  # fmt: skip
    privacy = factor_words(PRIVACY)
    told = {f: fixed.get(f, "") if len(order.get(f, ())) > 1 else "" for f in (ATTACK, privacy)}
    return Effect(factor, level, reference, by, by_level, told[ATTACK], told[privacy], found[1], found[0])


def _judged(found: Iterator[Effect]) -> list[Effect]:
    every = list(found)
    return [
        replace(one, against=pair)
        for one, pair in zip(every, corrected([one.against for one in every]), strict=True)
        if pair is not None
    ]
