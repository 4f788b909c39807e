"""The gate: a finished sweep against a baseline, every metric of every configuration judged, one verdict and exit code.

Exit codes: 0 all pass; 1 at least one regression; 2 no regression is shown, but something cannot be told or is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoflip_secure.errors import InputError
from autoflip_secure.records.configs import differences
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.across import pair_up
from autoflip_secure.reports.gate.baseline import Baseline, versions
from autoflip_secure.reports.gate.choice import Choice
from autoflip_secure.reports.gate.comparison import LEVEL, compare
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
    advisory: bool = False  # shown, and never failing

    @property
    def name(self) -> str:
        """All of it in words."""
        return f"{self.algorithm} · {self.condition} · {self.metric.title}"


@dataclass(frozen=True)
class GateResult:
    """What the gate says."""

    lines: list[Line]  # those that decide, then those that are advisory
    missing: list[Entry]  # of the baseline, not in the sweep
    new: list[Entry]  # of the sweep, not in the baseline
    new_metrics: list[str]  # measured now, on a configuration of the baseline, but not then
    identical: tuple[int, int]  # cells that are bit-identical to the baseline's, of those compared
    choice: Choice
    margins: dict[str, float]
    baseline: Baseline
    versions: dict[str, str]  # of the sweep
    across: list[str]  # settings that were changed on purpose, what they were and are
    changed: list[str]  # of what the runs read, what is not the same as the baseline's
    seeds: tuple[frozenset[int], frozenset[int]]  # of the baseline, of the sweep
    level: float = LEVEL  # of this look

    def of(self, decision: Decision) -> list[Line]:
        """The lines that decide, and have this decision."""
        return [line for line in self.lines if line.judgement.decision is decision and not line.advisory]

    @property
    def deciding(self) -> list[Line]:
        """The lines that the verdict depends on."""
        return [line for line in self.lines if not line.advisory]

    @property
    def advisory(self) -> list[Line]:
        """The lines that are shown and never fail."""
        return [line for line in self.lines if line.advisory]

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
def run_gate(
    records: Iterable[RunRecord],
    baseline: Baseline,
    margins: Mapping[str, float],
    choice: Choice | None = None,
    *,
    across: Sequence[str] = (),
    inputs: Mapping[str, str] | None = None,
    level: float = LEVEL,
) -> GateResult:
    """Hold ``records``, every cell of a finished sweep, against ``baseline``, by the outcome that the baseline is of.

    Args:
        records: of every cell.
        baseline: what they are held against.
        margins: metric -> margin.
        choice: which metrics decide; None: as the baseline says.
        across: config paths that were changed on purpose.
        inputs: what the runs read -> digest.
        level: of every promise at this look.

    Raises:
        InputError: no configuration is in both, no metric that should decide is, or a record cannot be compared.
    """
    known = list(records)
    choice = choice or baseline.choice
    found = entries(known, baseline.entries.values(), baseline.rule)
    pairs = pair_up(found, baseline.entries, across)
    if not pairs.of:
        raise InputError(_nothing_shared(found, baseline.entries))
    both = {key: (baseline.entries[old], found[key]) for key, old in pairs.of.items()}
    identical = {key: _identical(*sides) for key, sides in both.items()}
    for key, sides in both.items():
        _check_same_numbers(*sides, identical[key])
    lines = [
        line
        for names, advisory in ((choice.deciding, False), (choice.shown, True))
        for line in _judged(both, identical, names, margins, level, advisory=advisory)
    ]
    if all(line.advisory for line in lines):
        raise InputError(_nothing_decides(choice, both))
    cells = [sides for sides in both.values() if sides[0].curve is None]
    return GateResult(
        lines=lines,
        missing=[e for key, e in baseline.entries.items() if key not in pairs.of.values() and _decides(e, choice)],
        new=[e for key, e in found.items() if key not in pairs.of and _decides(e, choice)],
        new_metrics=[
            f"{new.label} · {METRICS[name].title}"
            for old, new in both.values()
            for name in new.metrics
            if name not in old.metrics and name in choice.deciding | choice.shown
        ],
        identical=(
            sum(len(identical[key]) for key, (old, _) in both.items() if old.curve is None),
            sum(len(set(old.digests) & set(new.digests)) for old, new in cells),
        ),
        choice=choice,
        margins=dict(margins),
        baseline=baseline,
        versions=versions(known),
        across=pairs.notes,
        changed=[what for what, digest in (inputs or {}).items() if not _unchanged(baseline.inputs.get(what), digest)],
        seeds=(baseline.seeds, frozenset(record.seed for record in known)),
        level=level,
    )


_Sides = Mapping[str, tuple[Entry, Entry]]  # key in the sweep -> of the baseline, of the sweep


def _judged(
    both: _Sides,
    identical: Mapping[str, Sequence[int]],
    names: frozenset[str],
    margins: Mapping[str, float],
    level: float,
    *,
    advisory: bool,
) -> list[Line]:
    """A line for each of these metrics of each configuration: one family, corrected for by itself."""
    wanted = [
        (key, METRICS[name])
        for key, (old, _) in both.items()
        for name in METRICS
        if name in names and name in old.metrics
    ]
    sampled = [pair for pair in wanted if not pair[1].computed]
    compared = [
        compare(m, old.metrics[m.name], new.metrics.get(m.name, {}), identical[key], _lost(old, new, m), level)
        for key, m in sampled
        for old, new in [both[key]]
    ]
    metrics = [m for _, m in sampled]
    tested = judge(compared, metrics, [margins[m.name] for m in metrics], level)
    judgements = dict(zip(sampled, tested, strict=True)) | {
        (key, m): judge_exact(m, *_proven(*both[key], m, identical[key]), margins[m.name])
        for key, m in wanted
        if m.computed
    }
    return [
        Line(key, both[key][1].algorithm, both[key][1].condition, metric, judgements[key, metric], advisory)
        for key, metric in wanted
    ]


def _lost(old: Entry, new: Entry, metric: Metric) -> list[int]:
    """Seeds of which the baseline has a value, and the sweep, which was run on them too, has none."""
    now = new.metrics.get(metric.name, {})
    return [seed for seed in old.metrics[metric.name] if seed in new.digests and seed not in now]


def _decides(entry: Entry, choice: Choice) -> bool:
    """Whether the verdict would depend on it."""
    return bool(choice.deciding & entry.metrics.keys())


def _unchanged(before: str | None, now: str) -> bool:
    """Whether a digest is the baseline's, which keeps its first digits; where it says nothing, nobody knows."""
    return before is None or now.startswith(before)


def _nothing_decides(choice: Choice, both: _Sides) -> str:
    there = dict.fromkeys(name for old, _ in both.values() for name in METRICS if name in old.metrics)
    if not choice.deciding:
        return "--advisory: leaves no metric that could fail; name what decides with --metrics"
    return (
        f"--metrics {','.join(choice.metrics or ())}: the baseline has none of these; name others (it has "
        f"{', '.join(there)}), or make a baseline of a sweep that measures them"
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
