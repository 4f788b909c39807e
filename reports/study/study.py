"""A sweep as a reader sees it: algorithms, compared under conditions, over seeds.

A *condition* is a facet (data, partition, model, schedule: what is learned) and an attack. Within a condition two
algorithms at one seed form a pair. An *algorithm* is a display name and, where a sweep varies its settings, those too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import leaves, varying, without, without_paths
from autoflip_secure.records.newer_keys import with_newer
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.privacy import PrivacyRecord
from autoflip_secure.records.proven import lack, unprotected
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.privacy import NO_PRIVACY, protection

BASELINE = "fedavg"
HEADLINE = ("autoflip", "autoflip_plus")  # whose verdict opens the report, when they were run
_FIRST = {name: rank for rank, name in enumerate((BASELINE, *HEADLINE))}
_SPLITS = ("iid", "dirichlet", "pathological", "by_group")
_OF_ALGORITHM = ("algorithm", "exploration", "guidance")


class Condition(NamedTuple):
    """What algorithms are compared on: labels of the facet and of the attack."""

    facet: str
    attack: str

    def __str__(self) -> str:
        return f"{self.facet}, {self.attack}"


@dataclass(frozen=True)
class Study:
    """Records in reading order. ``cells`` has one row per record, index = position in ``records``."""

    records: list[RunRecord]
    cells: pd.DataFrame  # cell, algorithm, family, seed, facet, attack, clean, accuracy
    algorithms: list[str]  # labels, the baseline first
    families: dict[str, str]  # algorithm label -> display name in the records
    variants: dict[str, dict[str, Any]]  # algorithm label -> leaves of its settings
    facets: dict[str, dict[str, Any]]  # facet label -> its configuration
    attacks: dict[str, dict[str, Any]]  # attack label -> its configuration; "no attack" first
    duplicates: int  # records left out because they repeat another one (same condition, algorithm and seed)
    outcome: OutcomeRule = DEFAULT  # which evaluations of a run make its accuracy

    @property
    def rows(self) -> Iterator[tuple[Any, RunRecord]]:
        """Every row of ``cells`` with its record."""
        return zip(self.cells.itertuples(), self.records, strict=True)

    def accuracy(self, record: RunRecord) -> float:
        """Test accuracy that a run came to, in [0, 1]: the outcome that everything in the report is about."""
        return self.outcome.accuracy(record)

    @cached_property
    def measured(self) -> str:
        """What accuracy is of: the global model on the test set, clients' own models, or either by condition."""
        personal = {record.personal is not None for record in self.records}
        return {frozenset({False}): "test accuracy", frozenset({True}): "personal accuracy"}.get(
            frozenset(personal), "accuracy"
        )

    @property
    def baseline(self) -> str | None:
        """Label of FedAvg, when the sweep ran it."""
        return next((a for a in self.algorithms if self.families[a] == BASELINE), None)

    @property
    def headline(self) -> list[str]:
        """At most two algorithms that the verdict speaks about."""
        families = dict.fromkeys(self.families.values())
        chosen = [f for f in HEADLINE if f in families] or [f for f in families if f != BASELINE][:2]
        variants = [[a for a in self.algorithms if self.families[a] == family] for family in chosen]
        return [labels[(len(labels) - 1) // 2] for labels in variants]  # of several settings, the middle one

    @property
    def conditions(self) -> list[Condition]:
        """Conditions with at least one cell, facet by facet, "no attack" first."""
        present = set(zip(self.cells["facet"], self.cells["attack"], strict=True))
        return [Condition(f, a) for f in self.facets for a in self.attacks if (f, a) in present]

    def values(self, condition: Condition, algorithm: str) -> dict[int, float]:
        """Seed -> accuracy of the cells of one algorithm under one condition; missing values are left out."""
        rows = self._groups.get((condition.facet, condition.attack, algorithm), [])
        seeds, values = self.cells["seed"], self.cells["accuracy"]
        return {int(seeds.iloc[i]): float(values.iloc[i]) for i in rows if pd.notna(values.iloc[i])}

    def runs(self, condition: Condition, algorithm: str) -> list[RunRecord]:
        """The records of one algorithm under one condition, by seed."""
        rows = self._groups.get((condition.facet, condition.attack, algorithm), [])
        return sorted((self.records[i] for i in rows), key=lambda r: r.seed)

    def between(self, condition: Condition, algorithm: str) -> tuple[float, float] | None:
        """Worst client and standard deviation between clients of their own models' accuracy, mean over seeds."""
        found = [self.outcome.between_clients(record) for record in self.runs(condition, algorithm)]
        known = [pair for pair in found if pair is not None]
        return (fmean(worst for worst, _ in known), fmean(spread for _, spread in known)) if known else None

    def hardest(self, facet: str, kind: str | None = None) -> Condition | None:
        """The attacked condition of a facet (of one attack kind) that hurts the baseline, or everybody, the most."""
        rows = self.cells[(self.cells["facet"] == facet) & ~self.cells["clean"]]
        if kind is not None:
            rows = rows[rows["attack"].isin([a for a in self.attacks if self.attacks[a]["kind"] == kind])]
        if self.baseline is not None and (rows["algorithm"] == self.baseline).any():
            rows = rows[rows["algorithm"] == self.baseline]
        if rows.empty:
            return None
        return Condition(facet, str(rows.groupby("attack", sort=False)["accuracy"].mean().idxmin()))

    @property
    def attack_kinds(self) -> list[str]:
        """Kinds of the attacks that were run, without "none"."""
        return list(dict.fromkeys(str(a["kind"]) for a in self.attacks.values() if a["kind"] != "none"))

    @cached_property
    def _groups(self) -> dict[tuple[str, str, str], list[int]]:
        groups: dict[tuple[str, str, str], list[int]] = {}
        keys = zip(self.cells["facet"], self.cells["attack"], self.cells["algorithm"], strict=True)
        for i, key in enumerate(keys):
            groups.setdefault(key, []).append(i)
        return groups


def study(records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Study:
    """Sort records into algorithms and conditions; ``outcome`` says what a run came to.

    Raises:
        InputError: there is no record at all.
    """
    if not records:
        raise InputError("no finished cell in this sweep, so there is nothing to report; run the sweep first")
    facets = [without(_asked(r), "name", "seed", "attack", *_OF_ALGORITHM) for r in records]
    attacks = [_attack(r.config) for r in records]
    variants = [_variant(r) for r in records]
    attack_names = labels.label_all(attacks, labels.attack_label)
    variant_names = labels.label_all(variants, lambda v: labels.pretty(v["family"]))
    algorithms = [variant_names[canonical(v)] for v in variants]
    facet_names = _facet_labels(facets, _lacking(records, facets, algorithms))
    rows, kept, seen = [], [], set()
    for record, facet, attack, variant in zip(records, facets, attacks, variants, strict=True):
        key = tuple(canonical(part) for part in (facet, attack, variant))
        if (*key, record.seed) in seen:
            continue
        seen.add((*key, record.seed))
        kept.append(record)
        rows.append(
            {
                "cell": record.cell,
                "algorithm": variant_names[key[2]],
                "family": record.algorithm,
                "seed": record.seed,
                "facet": facet_names[key[0]],
                "attack": attack_names[key[1]],
                "clean": labels.is_clean(attack),
                "accuracy": outcome.accuracy(record),
            }
        )
    by_label = {variant_names[canonical(v)]: v for v in variants}
    order = sorted(
        by_label, key=lambda a: (_FIRST.get(by_label[a]["family"], 9), by_label[a]["family"], _natural(by_label[a]))
    )
    return Study(
        records=kept,
        cells=pd.DataFrame(rows),
        algorithms=order,
        families={a: by_label[a]["family"] for a in order},
        variants={a: leaves(by_label[a]["settings"]) for a in order},
        facets=dict(sorted({facet_names[canonical(f)]: f for f in facets}.items(), key=lambda i: _facet_order(i[1]))),
        attacks=dict(
            sorted({attack_names[canonical(a)]: a for a in attacks}.items(), key=lambda i: _attack_order(i[1]))
        ),
        duplicates=len(records) - len(kept),
        outcome=outcome,
    )


def _asked(record: RunRecord) -> dict[str, Any]:
    """What a run was asked with. What was tuned is no part of that: each algorithm has its own value of it."""
    return without_paths(with_newer(record.config), record.tuning.chosen if record.tuning else ())


def _attack(config: Mapping[str, Any]) -> dict[str, Any]:
    attack = config.get("attack")
    return {"kind": "none"} if labels.is_clean(attack) else dict(attack or {})


def _variant(record: RunRecord) -> dict[str, Any]:
    """The algorithm's settings. Exploration and guidance count only for runs that explored."""
    used = _OF_ALGORITHM if record.exploration is not None else _OF_ALGORITHM[:1]
    config = _asked(record)
    settings = {key: config.get(key) for key in used}
    if isinstance(settings["algorithm"], Mapping):
        settings["algorithm"] = without(settings["algorithm"], "name")
    return {"family": record.algorithm, "settings": settings}


def _lacking(records: Sequence[RunRecord], facets: list[dict[str, Any]], algorithms: list[str]) -> dict[str, str]:
    """Canonical facet -> what its private runs do not promise, with the algorithms where it is not all of them."""
    runs: dict[str, dict[str, list[PrivacyRecord]]] = {}  # facet -> algorithm -> ledgers
    for record, facet, algorithm in zip(records, facets, algorithms, strict=True):
        if record.privacy is not None:
            runs.setdefault(canonical(facet), {}).setdefault(algorithm, []).append(record.privacy)
    return {facet: _lack(own) for facet, own in runs.items()}


def _lack(runs: Mapping[str, Sequence[PrivacyRecord]]) -> str:
    """Algorithm -> ledgers, as one phrase: what nobody promises, then who promises less."""
    asked = list(dict.fromkeys(g.observer for found in runs.values() for ledger in found for g in ledger.guarantees))
    lacking = {algorithm: {o for ledger in found for o in unprotected(ledger)} for algorithm, found in runs.items()}
    shared = set.intersection(*lacking.values())
    told = lack(shared, asked)
    worse: dict[str, list[str]] = {}
    for algorithm, observers in lacking.items():
        if observers > shared:
            worse.setdefault(lack(observers, asked), []).append(algorithm)
    for words, algorithms in worse.items():
        names = " and ".join(algorithms) if len(algorithms) < 3 else f"{len(algorithms)} algorithms"
        told += f", {words} at all for {names}" if told else f"{words} for {names}"
    return told


def _facet_labels(facets: list[dict[str, Any]], lacking: Mapping[str, str]) -> dict[str, str]:
    """What tells facets apart, in words; a single one is called by its split."""
    named = ("partition", "privacy", "secure_sum")
    rest = varying(without(f, *named) for f in facets)
    split, private, secure = (len({canonical(f.get(key)) for f in facets}) > 1 for key in named)
    distinct = {canonical(f): f for f in facets}

    def describe(facet: dict[str, Any]) -> str:
        flat = leaves(facet)
        partition = labels.partition_label(facet.get("partition") or {})
        words = [partition] if split else []
        words += [protection(facet.get("privacy"), lacking.get(canonical(facet), ""))] if private else []
        words += [labels.passage(facet.get("secure_sum"))] if secure else []
        words += [f"{labels.setting(path)} {labels.number(flat[path])}" for path in rest if path in flat]
        return " · ".join(words or [partition])

    for follower in ("sampling", "cohort"):  # often they follow from what else varies; then nothing is said of them
        if follower in rest and len({describe(f) for f in distinct.values()}) == len(distinct):
            rest.remove(follower)
            if len({describe(f) for f in distinct.values()}) < len(distinct):
                rest.append(follower)
    return labels.label_all(facets, describe)


def _natural(config: Any) -> tuple[tuple[int, float, str], ...]:
    """Sort key that puts numbers in numeric order."""
    flat = leaves(config)
    return tuple((0, float(v), "") if isinstance(v, int | float) else (1, 0.0, str(v)) for _, v in sorted(flat.items()))


def _facet_order(facet: dict[str, Any]) -> tuple[Any, ...]:
    partition = facet.get("partition") or {}
    kind = partition.get("kind")
    rank = _SPLITS.index(kind) if kind in _SPLITS else len(_SPLITS)
    return (
        rank,
        -float(partition.get("alpha") or 0),
        _natural(partition),
        protection(facet.get("privacy")) != NO_PRIVACY,
        labels.passage(facet.get("secure_sum")) != labels.OPEN,
        _natural(without(facet, "partition")),
    )


def _attack_order(attack: dict[str, Any]) -> tuple[Any, ...]:
    kind = str(attack.get("kind"))
    return (
        kind != "none",
        kind,
        *(float(attack.get(key) or 0) for key in ("scope", "sigma", "share")),
        _natural(attack),
    )
