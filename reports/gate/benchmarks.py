"""A run of the gate as the files of benchmark trackers: github-action-benchmark and Bencher.

github-action-benchmark takes a list of values that are all better when larger, or all when smaller (``tool:
customBiggerIsBetter`` or ``customSmallerIsBetter``); Bencher takes a benchmark's measures in one object (BMF).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.reports.gate.gate import GateResult, Line
from autoflip_secure.reports.gate.metrics import Metric
from autoflip_secure.reports.gate.output import evidence
from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.terminal.near_names import suggest

_UNITS = {"bytes": "bytes", "flops_sparse": "FLOPs", "flops_compacted": "FLOPs", "secure_sum_error": "relative error"}


def github_action_benchmark(result: GateResult, *, bigger: bool) -> str:
    """The values that are better when larger, or those that are better when smaller."""
    rows = [
        {
            "name": clean_text(line.name),
            "unit": _unit(line.metric),
            "value": line.judgement.comparison.new,
            "extra": clean_text(f"{line.judgement.decision.value}: {evidence(line)}"),
        }
        for line in _measured(result)
        if line.metric.higher_is_better is bigger
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def bencher(result: GateResult) -> str:
    """Bencher Metric Format: benchmark -> measure -> value."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for line in _measured(result):
        measure = line.metric.name.replace("_", "-")
        name = clean_text(f"{line.algorithm} · {line.condition}")
        found.setdefault(name, {})[measure] = {"value": line.judgement.comparison.new}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[GateResult], str]] = {
    "customBiggerIsBetter": lambda result: github_action_benchmark(result, bigger=True),
    "customSmallerIsBetter": lambda result: github_action_benchmark(result, bigger=False),
    "bencher": bencher,
}
"""Name, as the tracker calls it -> the file's text."""


def exports(options: Iterable[str]) -> dict[Path, Callable[[GateResult], str]]:
    """``FORMAT=FILE`` of the command line -> what is written where.

    Raises:
        InputError: an unknown format, no file, or one file twice.
    """
    found: dict[Path, Callable[[GateResult], str]] = {}
    for option in options:
        name, _, file = (part.strip() for part in option.partition("="))
        if name not in FORMATS:
            raise InputError(f"--export {option}: there is no format '{name}'; {suggest(name, FORMATS)}")
        if not file:
            raise InputError(f"--export {option}: names no file; write --export {name}=FILE")
        if Path(file) in found:
            raise InputError(f"--export {option}: {file} is given twice; give each format a file of its own")
        found[Path(file)] = FORMATS[name]
    return found


def _measured(result: GateResult) -> list[Line]:
    return [line for line in result.lines if line.judgement.comparison.new is not None]


def _unit(metric: Metric) -> str:
    return "epsilon" if metric.computed else _UNITS.get(metric.name, "share")
