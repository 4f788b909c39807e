"""A record as experiment trackers want it: parameters, final numbers, and one series of numbers per quantity.

Everything comes from the finished record, in an order that the record fixes; equal numbers give an equal digest, which
is how a tracker knows that a run is there already.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from autoflip_secure.files.canonical_json import digest
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.proven import bound
from autoflip_secure.records.run import RoundRecord, RunRecord

Series = dict[str, list[tuple[int, float]]]  # name -> (round, value), rounds rising
_NAME = 120  # characters of a run's name, without the cell's hash
_DIGITS = 8  # of a digest that tells names apart
_KEPT = re.compile(r"[\w.,=()+\-:\[\]{}'\" ]*", re.ASCII)  # what brackets and colons enclose stays apart without them


@dataclass(frozen=True)
class Begun:
    """One cell that still runs, for a tracker."""

    run: str  # readable, unique in its sweep, and safe as a folder's name
    group: str  # the same for all seeds of a setting
    cell: str
    parameters: dict[str, str]  # dotted config path -> value


@dataclass(frozen=True)
class Track:
    """One cell, for a tracker."""

    run: str  # readable, unique in its sweep, and safe as a folder's name
    group: str  # the same for all seeds of a setting
    parameters: dict[str, str]  # dotted config path -> value
    final: dict[str, float]  # of the whole run; accuracy and loss are the scenario's outcome
    series: Series
    tags: dict[str, str]
    digest: str  # of the record's numbers, and of which of them make the outcome


def track(record: RunRecord, outcome: OutcomeRule = DEFAULT) -> Track:
    """What of ``record`` goes to a tracker; ``outcome`` says what it came to.

    Quantities that are undefined or not finite are left out.
    """
    series: Series = {}
    for entry in record.rounds:
        for name, value in points(entry):
            series.setdefault(name, []).append((entry.round, value))
    numbers = digest([record.numbers(), str(outcome)])
    tags = {
        "autoflip.cell": record.cell,
        "autoflip.group": group_name(record.algorithm, record.axes),
        "autoflip.digest": numbers,
        "autoflip.algorithm": record.algorithm,
        "autoflip.seed": str(record.seed),
        "autoflip.outcome": str(outcome),
        "autoflip.malicious_clients": ", ".join(map(str, record.malicious_clients)),
        **{f"autoflip.version.{name}": version for name, version in sorted(record.versions.items())},
        **_guarantees(record),
    }
    final = {name: float(v) for name, v in _final(record, outcome) if v is not None and math.isfinite(v)}
    group = tags["autoflip.group"]
    return Track(run_name(record), group, dict(_flat(record.config)), final, series, tags, numbers)


def begun(algorithm: str, axes: Mapping[str, Any], seed: int, cell: str, config: Mapping[str, Any]) -> Begun:
    """A cell before it has a record."""
    return Begun(_run_name(algorithm, axes, seed, cell), group_name(algorithm, axes), cell, dict(_flat(config)))


def points(entry: RoundRecord) -> Iterator[tuple[str, float]]:
    """Name and value of every quantity of a round that is there and finite."""
    return ((name, float(v)) for name, v in _round(entry) if v is not None and math.isfinite(v))


def begins(series: Series, shown: Series) -> bool:
    """Whether what was shown is how ``series`` begin.

    >>> begins({"a": [(1, 0.5), (2, 0.6)]}, {"a": [(1, 0.5)]}), begins({"a": [(1, 0.5)]}, {"a": [(1, 0.4)]})
    (True, False)
    """
    return all(series.get(name, [])[: len(known)] == known for name, known in shown.items())


def _guarantees(record: RunRecord) -> dict[str, str]:
    """What is proven against each observer, in words: a target among the parameters is no proof."""
    found = record.privacy.guarantees if record.privacy is not None else []
    return {f"autoflip.guarantee.{g.observer.replace(' ', '_')}": str(bound(g) or "no guarantee") for g in found}


def run_name(record: RunRecord) -> str:
    """``autoflip,attack=gaussian_noise(sigma=0.5),seed=10,3f2a…``: algorithm, the sweep's axes, seed, cell.

    Characters that are not safe in a file name become ``-``.
    """
    return _run_name(record.algorithm, record.axes, record.seed, record.cell)


def _run_name(algorithm: str, axes: Mapping[str, Any], seed: int, cell: str) -> str:
    return f"{group_name(algorithm, axes)},seed={seed},{cell}"


def group_name(algorithm: str, axes: Mapping[str, Any]) -> str:
    """What all seeds of a setting share, and no other setting: ``autoflip,attack=gaussian_noise(sigma=0.5)``.

    Where letters of it are lost, because it is long or they are not safe, it ends in a digest of all of them.
    """
    parts = [f"{path}={_short(value)}" for path, value in axes.items() if path != "algorithm"]
    text = ",".join([algorithm, *parts])
    name = re.sub(r"[^\w.,=()+-]+", "-", text, flags=re.ASCII).strip(".-")
    if len(name) <= _NAME and _KEPT.fullmatch(text):
        return name
    end = digest(text)[:_DIGITS]
    return f"{name[: _NAME - len(end) - 1]}-{end}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        kind = value.get("kind", value.get("name", ""))
        rest = ",".join(f"{k}={_short(v)}" for k, v in value.items() if k not in ("kind", "name"))
        return f"{kind}({rest})" if rest else str(kind)
    return str(value)


def _round(entry: RoundRecord) -> Iterator[tuple[str, float | None]]:
    yield "test/accuracy", entry.test_accuracy
    if entry.personal is not None:
        yield "test/worst_client", entry.personal.worst
        yield "test/client_spread", entry.personal.spread
        yield "test/global_accuracy", entry.personal.global_accuracy
    yield "test/loss", entry.test_loss
    if entry.attack_success is not None:
        yield "test/attack_success", entry.attack_success
    yield "train/loss", entry.train_loss
    yield "model/density", entry.density
    yield "update/variance", entry.update_variance
    yield "update/client_variance", entry.client_variance
    yield "update/step_norm", entry.step_norm
    yield "clients/rejected", float(len(entry.rejected))
    for name, numbers in (("score", entry.scores), ("trust", entry.trust)):
        for who, malicious in (("malicious", True), ("honest", False)):
            yield (
                f"clients/{name}_{who}",
                _mean(n for n, b in zip(numbers or (), entry.malicious, strict=False) if b is malicious),
            )
    yield "cost/uplink_bytes", float(entry.bytes.uplink_values)
    yield "cost/downlink_bytes", float(entry.bytes.downlink_values)
    yield "cost/training_flops", _number(entry.flops.sparse)


def _final(record: RunRecord, outcome: OutcomeRule) -> Iterator[tuple[str, float | None]]:
    yield "outcome/accuracy", outcome.accuracy(record)
    yield "outcome/loss", outcome.loss(record)
    if record.backdoor is not None:
        yield "outcome/attack_success", outcome.attack_success(record)
    yield "final/detection_auc", record.detection_auc
    yield "final/density", record.rounds[-1].density if record.rounds else None
    yield "final/uplink_bytes", float(record.costs.bytes.uplink_values)
    yield "final/training_flops", _number(record.costs.flops.sparse)


def _number(count: int | None) -> float | None:
    return None if count is None else float(count)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None


def _flat(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of a configuration by dotted path; text as it is, everything else as JSON.

    >>> dict(_flat({"attack": {"kind": "none"}, "hidden": [8, 4], "lr": None}))
    {'attack.kind': 'none', 'hidden': '[8, 4]', 'lr': 'null'}
    """
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value)
