"""A sweep as a reader sees it: algorithms, compared under conditions, over seeds.

A *condition* is a facet (data, partition, model, schedule: what is learned) and an attack. Within a condition two
algorithms at one seed form a pair. An *algorithm* is a display name and, where a sweep varies its settings, those too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from autoflip_secure.errors import InputError
from autoflip_secure.records.configs import leaves, without
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.parts import (
    OF_ALGORITHM,
    Alike,
    asked,
    attack_of,
    attack_order,
    facet_labels,
    facet_order,
    lacking,
    natural,
    variant_of,
)

BASELINE = "fedavg"
HEADLINE = ("autoflip", "autoflip_plus")  # whose verdict opens the report, when they were run
_FIRST = {name: rank for rank, name in enumerate((BASELINE, *HEADLINE))}


class Condition(NamedTuple):
    """What algorithms are compared on: labels of the facet and of the attack."""

    facet: str
    attack: str

    def __str__(self) -> str:
        return ", ".join(part for part in self if part)  # where attacks are compared, no condition has one


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
    compared: str = "algorithm"  # what ``algorithms`` are levels of: another path in a study of :mod:`.levels`
    reference: str | None = None  # label of the level that others are compared with; None: FedAvg, when it was run
    strata: dict[str, str] = field(
        default_factory=dict
    )  # facet label -> conditions that may be averaged; none: all may

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
        """What all others are compared with: FedAvg when the sweep ran it, or the reference level."""
        return self.reference or next((a for a in self.algorithms if self.families[a] == BASELINE), None)

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
    rows, kept, seen = [], [], set()
    facets, attacks, variants = Alike(), Alike(), Alike()
    keys = [
        (
            facets.add(without(asked(record), "name", "seed", "attack", *OF_ALGORITHM)),
            attacks.add(attack_of(record.config)),
            variants.add(variant_of(record)),
        )
        for record in records
    ]
    attack_names = labels.label_all(attacks.values(), labels.attack_label)
    variant_names = labels.label_all(variants.values(), lambda v: labels.pretty(v["family"]))
    facet_names = facet_labels(
        [*facets.values()], lacking(records, [key[0] for key in keys], [variant_names[key[2]] for key in keys])
    )
    clean = {key: labels.is_clean(attack) for key, attack in attacks.items()}
    for record, key in zip(records, keys, strict=True):
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
                "clean": clean[key[1]],
                "accuracy": outcome.accuracy(record),
            }
        )
    by_label = {variant_names[key]: variant for key, variant in variants.items()}
    order = sorted(
        by_label, key=lambda a: (_FIRST.get(by_label[a]["family"], 9), by_label[a]["family"], natural(by_label[a]))
    )
    return Study(
        records=kept,
        cells=pd.DataFrame(rows),
        algorithms=order,
        families={a: by_label[a]["family"] for a in order},
        variants={a: leaves(by_label[a]["settings"]) for a in order},
        facets=dict(sorted({facet_names[k]: f for k, f in facets.items()}.items(), key=lambda i: facet_order(i[1]))),
        attacks=dict(
            sorted({attack_names[k]: a for k, a in attacks.items()}.items(), key=lambda i: attack_order(i[1]))
        ),
        duplicates=len(records) - len(kept),
        outcome=outcome,
    )
