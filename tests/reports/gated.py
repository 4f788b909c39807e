"""Sweeps of invented records, and the gate on them."""

from collections.abc import Callable, Sequence
from typing import Any

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline import Baseline, make_baseline
from autoflip_secure.reports.gate.choice import Choice
from autoflip_secure.reports.gate.gate import GateResult, run_gate
from autoflip_secure.reports.gate.metrics import METRICS

Make = Callable[..., RunRecord]
CLEAN: dict[str, Any] = {"kind": "none"}
IID = {"kind": "iid"}
DEFAULTS = {name: metric.margin for name, metric in METRICS.items()}
ALGORITHMS = ("fedavg", "autoflip")


def baseline(records: list[RunRecord], **margins: float) -> Baseline:
    return make_baseline(records, "test", "2024-01-01", DEFAULTS | margins)


def gate(
    records: list[RunRecord], held: Baseline, choice: Choice | None = None, across: Sequence[str] = (), **margins: float
) -> GateResult:
    return run_gate(records, held, dict(held.margins) | margins, choice, across=across)


def take(pool: dict[int, list[RunRecord]], seeds: Any) -> list[RunRecord]:
    return [record for seed in seeds for record in pool[int(seed)]]
