"""The gate: a finished sweep against a baseline, every metric of every configuration judged, one verdict and exit code.

Exit codes: 0 all pass; 1 at least one regression; 2 no regression is shown, but something cannot be told or is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autoflip_secure.errors import InputError
from autoflip_secure.records.configs import differences
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline import Baseline, versions
from autoflip_secure.reports.gate.comparison import compare
from autoflip_secure.reports.gate.decision import Decision, GateDecision, judge
from autoflip_secure.reports.gate.entries import entries
from autoflip_secure.reports.gate.exact import Proven, judge_exact
from autoflip_secure.reports.gate.metrics import METRICS, Entry, Metric
from autoflip_secure.reports.study.labels import clean_text, number
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.terminal.counting import some

_SHOWN = 5  # differences between configurations that an error lists


@dataclass(frozen=True)
class Line:
    """One metric of one configuration (or curve)."""

    key: str
    algorithm: str
    condition: str
    metric: Metric
    judgement: GateDecision

    @property
    def name(self) -> str:
        """All of it in words."""
        return f"{self.algorithm} · {self.condition} · {self.metric.title}"


@dataclass(frozen=True)
class GateResult:
    """What the gate says."""

    lines: list[Line]
    missing: list[Entry]  # of the baseline, not in the sweep
    new: list[Entry]  # of the sweep, not in the baseline
    new_metrics: list[str]  # measured now, on a configuration of the baseline, but not then
    identical: tuple[int, int]  # cells that are bit-identical to the baseline's, of those compared
    margins: dict[str, float]
    baseline: Baseline
    versions: dict[str, str]  # of the sweep

    def of(self, decision: Decision) -> list[Line]:
        """The lines with this decision."""
        return [line for line in self.lines if line.judgement.decision is decision]

    @property
    def decision(self) -> Decision:
        """A regression outweighs what is open, and what is open outweighs a pass."""
        if self.of(Decision.REGRESSION):
            return Decision.REGRESSION
        return Decision.CANNOT_TELL if self.missing or self.of(Decision.CANNOT_TELL) else Decision.PASS

    @property
    def exit_code(self) -> int:
        """0 pass, 1 regression, 2 cannot tell."""
        return {Decision.PASS: 0, Decision.REGRESSION: 1, Decision.CANNOT_TELL: 2}[self.decision]


@one_thread()
def run_gate(records: Iterable[RunRecord], baseline: Baseline, margins: Mapping[str, float]) -> GateResult:
    """Hold ``records``, every cell of a finished sweep, against ``baseline``, by the outcome that the baseline is of.

    Raises:
        InputError: no configuration is in both, or a record cannot be compared.
    """
    known = list(records)
    found = entries(known, baseline.entries.values(), baseline.rule)
    shared = [key for key in found if key in baseline.entries]
    if not shared:
        raise InputError(_nothing_shared(found, baseline.entries))
    identical = {key: _identical(baseline.entries[key], found[key]) for key in shared}
    for key in shared:
        _check_same_numbers(baseline.entries[key], found[key], identical[key])
    pairs = [(key, METRICS[name]) for key in shared for name in METRICS if name in baseline.entries[key].metrics]
    sampled = [pair for pair in pairs if not pair[1].computed]
    tested = judge(
        [
            compare(m, baseline.entries[key].metrics[m.name], found[key].metrics.get(m.name, {}), identical[key])
            for key, m in sampled
        ],
        [m for _, m in sampled],
        [margins[m.name] for _, m in sampled],
    )
    judgements = dict(zip(sampled, tested, strict=True)) | {
        (key, m): judge_exact(m, *_proven(baseline.entries[key], found[key], m, identical[key]), margins[m.name])
        for key, m in pairs
        if m.computed
    }
    lines = [
        Line(key, found[key].algorithm, found[key].condition, metric, judgements[key, metric]) for key, metric in pairs
    ]
    cells = [key for key in shared if found[key].curve is None]
    compared = sum(len(set(baseline.entries[key].digests) & set(found[key].digests)) for key in cells)
    return GateResult(
        lines=lines,
        missing=[entry for key, entry in baseline.entries.items() if key not in found],
        new=[entry for key, entry in found.items() if key not in baseline.entries],
        new_metrics=[
            f"{found[key].label} · {METRICS[name].title}"
            for key in shared
            for name in found[key].metrics
            if name not in baseline.entries[key].metrics
        ],
        identical=(sum(len(identical[key]) for key in cells), compared),
        margins=dict(margins),
        baseline=baseline,
        versions=versions(known),
    )


def _proven(old: Entry, new: Entry, metric: Metric, identical: Iterable[int]) -> tuple[Proven, Proven]:
    """Of every run its value or None, and what the value is about; records that are the same are about the same."""
    values = [{seed: side.metrics.get(metric.name, {}).get(seed) for seed in side.digests} for side in (old, new)]
    before, now = (side.terms.get(metric.name, {}) for side in (old, new))
    return Proven(values[0], {s: now[s] for s in identical if s in now} | before), Proven(values[1], now)


def _identical(old: Entry, new: Entry) -> list[int]:
    return [seed for seed, digest in old.digests.items() if new.digests.get(seed) == digest]


def _check_same_numbers(old: Entry, new: Entry, seeds: Iterable[int]) -> None:
    """A record that is the same in every number has the metrics that the baseline says, if nobody changed those.

    Raises:
        InputError: it has others.
    """
    for seed in seeds:
        for name, values in old.metrics.items():
            before, now = values.get(seed), new.metrics.get(name, {}).get(seed)
            if before is not None and now is not None and not math.isclose(before, now, rel_tol=1e-9, abs_tol=1e-12):
                raise InputError(
                    f"baseline: {old.label}, seed {seed}: {name} = {number(before)}, but the record, which is the "
                    f"same in every number, has {number(now)}: the baseline was changed by hand, or another version "
                    "computed it; restore it, or make it again with --update --reason"
                )


def _nothing_shared(found: Mapping[str, Entry], known: Mapping[str, Entry]) -> str:
    """Which setting keeps the sweep and the baseline apart: the closest two configurations and how they differ."""
    way_out = "give the baseline of this scenario, or make one with --update --reason"
    pairs = [(_differences(b, a), a) for b in known.values() for a in found.values() if a.curve is None is b.curve]
    if not pairs:
        return f"the baseline holds no configuration at all; {way_out}"
    differences, entry = min(pairs, key=lambda pair: len(pair[0]))
    return (
        f"no configuration of the sweep is in the baseline; {way_out}. The closest ({entry.label}) differs in "
        f"{some(differences, _SHOWN)}"
    )


def _differences(old: Entry, new: Entry) -> list[str]:
    found = differences(old.config, new.config)
    return [f"{clean_text(path)}: {number(before)} -> {number(after)}" for path, before, after in found]
