"""What the gate says, for a terminal and for scripts (JSON)."""

from __future__ import annotations

from typing import Any

from autoflip_secure.records.rounding import upper_text
from autoflip_secure.reports.gate.decision import Decision, GateDecision
from autoflip_secure.reports.gate.gate import GateResult, Line
from autoflip_secure.reports.gate.metrics import METRICS, Metric
from autoflip_secure.reports.gate.power import power_of
from autoflip_secure.reports.statistics.sample_size import MOST
from autoflip_secure.reports.study.labels import clean_text, shorten
from autoflip_secure.terminal.counting import count_of

_LONGEST = 200  # characters of what was read
WORST_FIRST = (Decision.REGRESSION, Decision.CANNOT_TELL, Decision.PASS)


_ADVISORY = {Decision.REGRESSION: "worse", Decision.CANNOT_TELL: "cannot tell", Decision.PASS: "within the margin"}


def headline(result: GateResult) -> str:
    """The verdict with its counts."""
    counts = ", ".join(f"{len(result.of(d))} {d.value}" for d in WORST_FIRST if result.of(d))
    missing = f"; {len(result.missing)} of the baseline missing" if result.missing else ""
    return f"{result.decision.value} ({count_of(len(result.deciding), 'metric')}: {counts}{missing})"


def lines(result: GateResult) -> list[str]:
    """For a terminal: the verdict, what did not pass, and how the comparison was made."""
    told = [
        f"gate: {headline(result)}",
        f"baseline: {clean_text(result.baseline.reason)} ({clean_text(result.baseline.created)}); {identity(result)}; "
        f"{outcome_text(result)}",
        f"margins: {_margins(result)}",
        *(f"compared across {note}" for note in result.across),
        *changes(result),
        *version_changes(result),
    ]
    for decision in WORST_FIRST[:2]:
        told += [f"{decision.value}: {line.name}: {evidence(line)}" for line in result.of(decision)]
    told += [f"missing: {entry.label} is in the baseline and not in the sweep" for entry in result.missing]
    told += [f"no baseline: {label}, not judged" for label in unjudged(result)]
    told += [f"advisory: {line.name}: {evidence(line)}" for line in open_advisory(result)]
    told += [f"advisory: {advisory_text(result)}"] if result.advisory else []
    power = power_of(result)
    return told + ([power.words] if power else [])


def advisory_text(result: GateResult) -> str:
    """How the metrics stand that never fail, in counts."""
    counts = [(word, sum(x.judgement.decision is d for x in result.advisory)) for d, word in _ADVISORY.items()]
    told = ", ".join(f"{n} {word}" for word, n in counts if n)
    return f"{count_of(len(result.advisory), 'metric')} shown, never failing: {told}"


def open_advisory(result: GateResult) -> list[Line]:
    """Those of them that do not stay within their margins, worst first."""
    return [x for d in WORST_FIRST[:2] for x in result.advisory if x.judgement.decision is d]


def changes(result: GateResult) -> list[str]:
    """What the runs read that is not what the baseline's read: the change that is judged."""
    return [f"changed since the baseline: {shorten(clean_text(what), _LONGEST)}" for what in result.changed]


def _margins(result: GateResult) -> str:
    """Of the metrics that are judged."""
    judged = {line.metric.name for line in result.lines}
    return ", ".join(f"{name} {margin_text(METRICS[name], m)}" for name, m in result.margins.items() if name in judged)


def outcome_text(result: GateResult) -> str:
    """Which evaluations the accuracies of both sides are of."""
    return f"accuracy is {result.baseline.rule.words}"


def identity(result: GateResult) -> str:
    """How many cells are the very same as the baseline's."""
    same, compared = result.identical
    if not compared:
        return "no seed is in both, so nothing is paired"
    return f"{same} of the {compared} cells that are in both are bit-identical"


def evidence(line: Line) -> str:
    """One line of the table in words: values, change, bounds, method, decision's reason, seeds that would settle it."""
    j, metric = line.judgement, line.metric
    parts = []
    if j.change is not None:
        parts.append(f"{value_text(metric, j.comparison.baseline)} -> {value_text(metric, j.comparison.new)}")
        parts.append(f"change {bounds_text(metric, j)}, margin {margin_text(metric, j.margin)}")
    parts.append(f"{method_text(j)}: {j.reason}")
    return ", ".join(parts) + more_text(j)


def more_text(j: GateDecision) -> str:
    """How many further seeds would settle a "cannot tell"."""
    if j.decision is not Decision.CANNOT_TELL or j.change is None:
        return ""
    side = " on each side (or the baseline's own seeds, which pairs them)" if j.comparison.method == "unpaired" else ""
    if j.more_seeds is None:
        return f"; more than {MOST} seeds{side} would be needed; consider a wider margin"
    about = "about" if j.comparison.tested else "at least"
    return f"; {about} {count_of(j.more_seeds, 'more seed')}{side} would settle it"


def bounds_text(metric: Metric, j: GateDecision) -> str:
    """Change with its bounds: ``-0.031 (-0.045 to -0.017)``."""
    if j.change is None:
        return "–"
    text = change_text(metric, j.change)
    if j.comparison.tested and j.low is not None and j.high is not None:
        text += f" ({change_text(metric, j.low)} to {change_text(metric, j.high)})"
    return text


def change_text(metric: Metric, change: float) -> str:
    """A change in the metric's units, or in per cent."""
    return f"{100 * change:+.2f} %" if metric.relative else f"{change:+.4f}"


def value_text(metric: Metric, value: float | None) -> str:
    """A value as a reader writes it."""
    if value is None:
        return "–"
    if metric.computed:
        return upper_text(value, 4)
    if metric.relative:
        return f"{value:,.0f}" if value >= 1 else f"{value:.1e}"
    return f"{value:.4f}"


def margin_text(metric: Metric, margin: float) -> str:
    """A margin in the metric's units, or in per cent."""
    return f"{100 * margin:g} %" if metric.relative else f"{margin:g}"


def method_text(j: GateDecision) -> str:
    """How it was compared, and on how many seeds."""
    a, b = j.comparison.seeds
    if j.comparison.method in ("paired", "identical", "computed"):
        return count_of(a, "paired seed")
    return f"{a} seeds against {b}{', unpaired (Welch)' if j.comparison.method == 'unpaired' else ''}"


def version_changes(result: GateResult) -> list[str]:
    """What the two sides ran on, where it differs."""
    before, after = result.baseline.versions, result.versions
    return [
        f"version of {clean_text(name)}: {clean_text(before.get(name, 'none'))} in the baseline, "
        f"{clean_text(after.get(name, 'none'))} now"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def unjudged(result: GateResult) -> list[str]:
    """What the baseline says nothing about."""
    return [*(entry.label for entry in result.new), *result.new_metrics]


def as_data(result: GateResult) -> dict[str, Any]:
    """Everything, as plain data for JSON."""
    power = power_of(result)
    return {
        "decision": result.decision.value,
        "exit_code": result.exit_code,
        "level": result.level,
        "choice": {"deciding": sorted(result.choice.deciding), "advisory": sorted(result.choice.shown)},
        "margins": result.margins,
        "baseline": {
            "reason": result.baseline.reason,
            "created": result.baseline.created,
            "outcome": result.baseline.outcome,
            "versions": result.baseline.versions,
        },
        "versions": result.versions,
        "identical_cells": result.identical[0],
        "paired_cells": result.identical[1],
        "across": result.across,
        "changed": result.changed,
        "metrics": [_row(line) for line in result.lines],
        "missing": [{"key": e.key, "algorithm": e.algorithm, "condition": e.condition} for e in result.missing],
        "no_baseline": unjudged(result),
        "power": None
        if power is None
        else {"open": power.open, "more_seeds": power.needed, "unused_seeds_of_the_baseline": list(power.unused)},
    }


def _row(line: Line) -> dict[str, Any]:
    j = line.judgement
    return {
        "key": line.key,
        "algorithm": line.algorithm,
        "condition": line.condition,
        "metric": line.metric.name,
        "decision": j.decision.value,
        "advisory": line.advisory,
        "reason": j.reason,
        "method": j.comparison.method,
        "seeds": {"baseline": j.comparison.seeds[0], "new": j.comparison.seeds[1]},
        "baseline": j.comparison.baseline,
        "new": j.comparison.new,
        "relative": line.metric.relative,
        "change": j.change,
        "low": j.low,
        "high": j.high,
        "margin": j.margin,
        "p_pass_hochberg": j.p_pass,
        "p_worse_holm": j.p_worse,
        "more_seeds": j.more_seeds,
    }
