"""The baseline as a file: how it is written for people and for diffs, and how every format that there was is read.

Format 4: what was decided (reason, margins, which metrics decide), what was run (versions, digests of data and source),
settings that all configurations share, and then one block a configuration: its own settings, and a line a metric
with the mean first and the value of every seed. Formats 1 to 3 have the same content, a line a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from autoflip_secure.errors import InputError
from autoflip_secure.reports.gate.metrics import METRICS, Entry, Metric, Terms

if TYPE_CHECKING:
    from autoflip_secure.reports.gate.baseline import Baseline

BASELINE_SCHEMA = 4
READABLE = (1, 2, 3, 4)  # 1 has epsilons without neighbours and delta, which nothing can be compared with; 1 and 2
# stand on the last evaluation; 1 to 3 do not say from which source they were made
_DIGITS = 13  # of a sampled value: an error of 1e-13 is far below what counts as a difference
_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Values(BaseModel):
    model_config = _STRICT

    mean: float
    seeds: dict[int, float]


class _About(BaseModel):
    model_config = _STRICT

    relation: str
    delta: float
    seeds: tuple[int, ...]


class _Block(BaseModel):
    model_config = _STRICT

    algorithm: str
    condition: str
    curve: str | None = None
    settings: dict[str, Any]
    metrics: dict[str, _Values]
    terms: dict[str, tuple[_About, ...]] = {}
    digests: dict[int, str]
    key: str


class _Blocks(BaseModel):
    """The part of a file that has another form than :class:`.Baseline`."""

    model_config = _STRICT

    settings: dict[str, Any]
    configurations: tuple[_Block, ...]


def document(baseline: Baseline) -> dict[str, Any]:
    """What the file says, in the order in which it says it."""
    entries = sorted(baseline.entries.values(), key=lambda e: (e.algorithm, e.condition, e.key))
    shared = _shared([entry.config for entry in entries])
    return {
        "baseline_schema": BASELINE_SCHEMA,
        "reason": baseline.reason,
        "created": baseline.created,
        "outcome": baseline.outcome,
        "choice": baseline.choice.model_dump(mode="json", exclude_none=True),
        "margins": {name: _margin(name, value) for name, value in sorted(baseline.margins.items())},
        "versions": dict(sorted(baseline.versions.items())),
        "inputs": dict(sorted(baseline.inputs.items())),
        "settings": shared,
        "configurations": [_block(entry, shared) for entry in entries],
    }


def fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """What :class:`.Baseline` is made of, from a file of any format that can be read.

    Raises:
        pydantic.ValidationError: a block has another form.
        InputError: a mean is not that of its seeds, or a block says another key than its settings have.
    """
    if data["baseline_schema"] < BASELINE_SCHEMA:
        return dict(data)
    parts = {name: data[name] for name in _Blocks.model_fields if name in data}
    blocks = _Blocks.model_validate(parts)
    entries = [_entry(block, blocks.settings) for block in blocks.configurations]
    margins = data.get("margins")
    return {
        **{name: value for name, value in data.items() if name not in parts},
        "margins": {name: _share(value) for name, value in margins.items()} if isinstance(margins, dict) else margins,
        "entries": {block.key: entry for block, entry in zip(blocks.configurations, entries, strict=True)},
    }


def _shared(configs: list[dict[str, Any]]) -> dict[str, Any]:
    """What all configurations have in common, key by key of the top."""
    first = configs[0] if configs else {}
    return {key: first[key] for key in sorted(first) if all(key in one and one[key] == first[key] for one in configs)}


def _block(entry: Entry, shared: Mapping[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = {"algorithm": entry.algorithm, "condition": entry.condition}
    if entry.curve is not None:
        block["curve"] = entry.curve
    block["settings"] = {key: entry.config[key] for key in sorted(entry.config) if key not in shared}
    block["metrics"] = {
        name: {
            "mean": _number(_mean(entry.metrics[name]), metric),
            "seeds": {seed: _number(value, metric) for seed, value in _by_seed(entry.metrics[name]).items()},
        }
        for name, metric in METRICS.items()
        if name in entry.metrics
    }
    if entry.terms:
        block["terms"] = {name: _terms(entry.terms[name]) for name in METRICS if name in entry.terms}
    return block | {"digests": _by_seed(entry.digests), "key": entry.key}


def _entry(block: _Block, shared: Mapping[str, Any]) -> Entry:
    label = f"{block.algorithm} · {block.condition}"
    for name, values in block.metrics.items():
        if not values.seeds or _mean(values.seeds) != values.mean:
            raise InputError(f"{label}: {name}: mean {values.mean} is not that of its seeds")
    terms = {
        name: {seed: Terms(relation=one.relation, delta=one.delta) for one in found for seed in one.seeds}
        for name, found in block.terms.items()
    }
    return Entry(
        algorithm=block.algorithm,
        condition=block.condition,
        config={**shared, **block.settings},
        curve=block.curve,
        metrics={name: values.seeds for name, values in block.metrics.items()},
        terms=terms,
        digests=block.digests,
    )


def _terms(by_seed: Mapping[int, Terms]) -> list[dict[str, Any]]:
    """Each once, with the seeds that it holds for."""
    seeds: dict[tuple[str, float], list[int]] = {}
    for seed in sorted(by_seed):
        seeds.setdefault((by_seed[seed].relation, by_seed[seed].delta), []).append(seed)
    return [{"relation": relation, "delta": delta, "seeds": which} for (relation, delta), which in seeds.items()]


def _by_seed(values: Mapping[int, Any]) -> dict[str, Any]:
    return {str(seed): values[seed] for seed in sorted(values)}


def _number(value: float, metric: Metric) -> float | int:
    """What is counted as a whole number; what is sampled without the last digits, which say nothing; what is proven
    with all of them."""
    if metric.computed:
        return value
    return int(value) if metric.counted and value.is_integer() else float(f"{value:.{_DIGITS}g}")


def _mean(values: Mapping[int, float]) -> float:
    """Six digits of it: for people, and to compare two files by eye."""
    return float(f"{fmean(values[seed] for seed in sorted(values)):.6g}")


def _margin(name: str, value: float) -> float | str:
    return f"{100 * value:.12g} %" if name in METRICS and METRICS[name].relative else value


def _share(value: Any) -> Any:
    """A margin in per cent as a share; anything else as it is, to be judged by whoever reads it."""
    if isinstance(value, str) and value.endswith("%"):
        try:
            return float(value.removesuffix("%")) / 100
        except ValueError:
            return value
    return value
