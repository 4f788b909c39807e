"""Records -> entries: cells that differ in nothing but the seed are one configuration; and the curves they make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical, digest
from autoflip_secure.records.configs import without
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.proven import no_guarantee
from autoflip_secure.records.run import SCHEMA_VERSION, RunRecord
from autoflip_secure.reports.gate.curves import curve_configs, curve_entry
from autoflip_secure.reports.gate.metrics import (
    METRICS,
    Entry,
    Metric,
    Terms,
    config_hash,
    proven_of,
)
from autoflip_secure.reports.study.labels import (
    OPEN,
    attack_label,
    label_all,
    partition_label,
    passage,
    pretty,
)
from autoflip_secure.reports.study.privacy import NO_PRIVACY, protection


def entries(
    records: Iterable[RunRecord], asked: Iterable[Entry] = (), outcome: OutcomeRule = DEFAULT
) -> dict[str, Entry]:
    """Key -> entry: every configuration, then every curve that the records make, and those curves among ``asked`` (of
    a baseline) whose cells are all there, though the records may have more strengths than they. Accuracies are by
    ``outcome``.

    Raises:
        InputError: a record of another schema, or with a number that cannot be compared.
    """
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.schema_version != SCHEMA_VERSION:
            raise InputError(
                f"cell {record.cell}: record format {record.schema_version}, but this version reads format "
                f"{SCHEMA_VERSION}; run the whole sweep again with one version"
            )
        groups.setdefault(config_hash(record.config), []).append(record)
    conditions = _conditions(list(groups.values()))
    cells = {key: _entry(group, conditions[key], outcome) for key, group in groups.items()}
    wanted = [(e.config, e.curve) for e in asked if e.curve is not None] + curve_configs(cells.values())
    curves = [curve_entry(config, parameter, cells) for config, parameter in wanted]
    return cells | {curve.key: curve for curve in curves if curve is not None}


def _entry(group: Sequence[RunRecord], condition: str, outcome: OutcomeRule) -> Entry:
    values: dict[str, dict[int, float]] = {}
    terms: dict[str, dict[int, Terms]] = {}
    for metric in METRICS.values():
        for record in group:
            value = metric.read(record, outcome) if metric.read else None
            if value is not None:
                values.setdefault(metric.name, {})[record.seed] = _checked(value, metric, record)
            if metric.observer is not None and (found := proven_of(record, metric.observer)) is not None:
                about = Terms(relation=found.relation, delta=found.delta)
                terms.setdefault(metric.name, {})[record.seed] = about
    return Entry(
        algorithm=pretty(group[0].algorithm),
        condition=condition,
        config=without(group[0].config, "seed"),
        curve=None,
        metrics=values,
        terms=terms,
        digests={r.seed: digest(without(r.numbers(), "axes", "tuning")) for r in group},
    )


def _checked(value: float, metric: Metric, record: RunRecord) -> float:
    if math.isfinite(value) and (value > 0 or not metric.relative):
        return float(value)
    bound = "a positive number" if metric.relative else "a finite number"
    raise InputError(
        f"cell {record.cell}: {metric.title} = {value} is not {bound}; remove the cell's file and run the sweep again"
    )


def _conditions(groups: Sequence[Sequence[RunRecord]]) -> dict[str, str]:
    """Key -> words for what each configuration was run on; different words for different ones of one algorithm."""
    named: dict[str, list[dict[str, Any]]] = {}
    lacking: dict[str, str] = {}
    for group in groups:
        config = without(group[0].config, "seed")
        named.setdefault(group[0].algorithm, []).append(config)
        lacking[canonical(config)] = no_guarantee(record.privacy for record in group)
    words: dict[str, str] = {}
    for configs in named.values():
        labels = label_all(configs, lambda config: _describe(config, lacking[canonical(config)]))
        words |= {config_hash(config): labels[canonical(config)] for config in configs}
    return words


def _describe(config: Any, lacking: str) -> str:
    """Split and attack; privacy and secure sums where there are any."""
    words = [partition_label(config.get("partition") or {}), attack_label(config.get("attack") or {})]
    private, parties = protection(config.get("privacy"), lacking), passage(config.get("secure_sum"))
    words += [private] if private != NO_PRIVACY else []
    words += [parties] if parties != OPEN else []
    return ", ".join(words)
