"""What the gate measures, one line per metric; and what it keeps: a value per metric and seed of each configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

from pydantic import BaseModel, ConfigDict

from autoflip_secure.files.canonical_json import digest
from autoflip_secure.records.configs import without
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.privacy import OBSERVERS, Observer
from autoflip_secure.records.proven import Bound, bounds, who
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.labels import is_clean

Read = Callable[[RunRecord, OutcomeRule], float | None]


@dataclass(frozen=True)
class Metric:
    """One line of the gate's table. A relative margin is a share of the baseline's value, any other is absolute."""

    name: str  # as in ``--margin name=value``
    title: str
    margin: float  # unless the user or the baseline says otherwise
    higher_is_better: bool
    relative: bool  # positive values, compared by their ratio
    read: Read | None  # from a cell (None: not measured); or, without, from a curve
    group: str  # as in ``--metrics``
    observer: Observer | None = None  # of an epsilon: whom it holds against

    @property
    def computed(self) -> bool:
        """Proven from the settings: compared seed by seed without a test, and None is a loss."""
        return self.observer is not None

    @property
    def counted(self) -> bool:
        """Counted and not measured: runs of one configuration that prune nothing cost the same on every seed."""
        return self.group == COSTS


COSTS = "costs"  # the group of what a run costs; never decides unless it is asked to
EXACT = 1e-9
"""Of the largest entry: what a secure sum may be off by; smaller errors are all alike."""


def _clean(record: RunRecord) -> bool:
    return is_clean(record.config.get("attack"))


def proven_of(record: RunRecord, observer: Observer) -> Bound | None:
    """What is proven of a run against one observer; None: no guarantee."""
    return next((one for one in bounds(record.privacy) if one.observer == observer), None)


def _epsilon(observer: Observer) -> Metric:
    def read(record: RunRecord, outcome: OutcomeRule) -> float | None:
        found = proven_of(record, observer)
        return None if found is None else found.epsilon

    name = "epsilon" if observer == "public" else f"epsilon_{observer.replace(' ', '_')}"
    return Metric(name, f"proven epsilon against {who(observer)}", 0.0, False, False, read, "privacy", observer)


def _secure_sum_error(record: RunRecord, outcome: OutcomeRule) -> float | None:
    phases = record.secure_sum.phases if record.secure_sum is not None else []
    errors = [phase.largest_error for phase in phases if phase.largest_error is not None]
    return max(*errors, EXACT) if errors else None


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("clean_accuracy", "clean accuracy", 0.02, True, False,
               lambda r, outcome: outcome.accuracy(r) if _clean(r) else None, "accuracy"),
        Metric("attacked_accuracy", "accuracy under attack", 0.03, True, False,
               lambda r, outcome: None if _clean(r) else outcome.accuracy(r), "accuracy"),
        Metric("detection_auc", "detection AUC", 0.05, True, False,
               lambda r, _: r.detection_auc, "detection"),
        Metric("degradation_area", "area under degradation", 0.02, True, False, None, "accuracy"),
        Metric("attack_success", "attack success of a backdoor", 0.05, False, False,
               lambda r, outcome: outcome.attack_success(r), "backdoors"),
        Metric("bytes", "bytes, up and down", 0.05, False, True,
               lambda r, _: r.costs.bytes.uplink_bitmask + r.costs.bytes.downlink_bitmask, COSTS),
        Metric("flops_sparse", "training FLOPs, sparse", 0.05, False, True,
               lambda r, _: r.costs.flops.sparse, COSTS),
        Metric("flops_compacted", "training FLOPs, compacted", 0.05, False, True,
               lambda r, _: r.costs.flops.compacted, COSTS),
        *map(_epsilon, sorted(OBSERVERS, key=lambda observer: observer != "public")),
        Metric("secure_sum_error", "error of secure sums", 0.5, False, True, _secure_sum_error, "secure_sums"),
    )
}  # fmt: skip


class Terms(BaseModel):
    """What an epsilon is about, besides its observer. Text, so that a baseline with other neighbours can be read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    relation: str
    delta: float

    def alike(self, other: Terms) -> bool:
        """Whether two epsilons can be compared."""
        return self.relation == other.relation and isclose(self.delta, other.delta, rel_tol=1e-9)


class Entry(BaseModel):
    """One configuration without its seed, or one curve of them, and what was measured on each seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    algorithm: str
    condition: str
    config: dict[str, Any]  # of a curve: the strengths as a list where a cell has one number
    curve: str | None  # the attack's parameter that the curve runs over; None: a single configuration
    metrics: dict[str, dict[int, float]]  # metric -> seed -> value
    terms: dict[str, dict[int, Terms]] = {}  # of epsilons: metric -> seed -> neighbours and delta
    digests: dict[int, str]  # seed -> hash of every number of the record: equal means bit-identical

    @property
    def key(self) -> str:
        """Hash of the full configuration without the seed."""
        return config_hash(self.config, self.curve)

    @property
    def label(self) -> str:
        """Algorithm and condition, for people."""
        return f"{self.algorithm} · {self.condition}"


def config_hash(config: Mapping[str, Any], curve: str | None = None) -> str:
    """Hash of a configuration without its seed (and of the parameter, for a curve over it).

    >>> config_hash({"rounds": 4, "seed": 1}) == config_hash({"seed": 2, "rounds": 4})
    True
    >>> config_hash({"rounds": 4}) == config_hash({"rounds": 5})
    False
    """
    return digest({"config": without(config, "seed"), "curve": curve})
