"""How robust runs are, beside their outcome: each alone and beside its clean twin, then over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoflip_secure.records import robustness
from autoflip_secure.records.backdoor import TriggerSurvival
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.cohort_majority import majority_probability
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.clean_twins import Recovery, clean_twins, mask_overlap, recovery
from autoflip_secure.reports.study.labels import is_clean
from autoflip_secure.reports.study.study import Condition, Study

TOLERANCE = 0.05
"""Amplification above 1 that is no alarm yet: slightly different numbers of samples, by which FedAvg weighs, do it."""


@dataclass(frozen=True)
class Majority:
    """Rounds in which at least half of the cohort is malicious."""

    clients: int
    malicious: int  # of the clients; where attacks have different ones, in the round with the most
    cohort: int
    poisson: bool
    acting: int  # rounds of the run in which somebody would misbehave
    probability: float  # in a round with so many malicious
    expected: float  # rounds of a run
    seen: int  # rounds of this run
    pushed: bool = False  # malicious clients change how often they are drawn: the chances above are of an even draw


@dataclass(frozen=True)
class RunRobustness:
    """One run. Shares are in [0, 1]; None: not measured, not known, or nothing to measure."""

    final: float
    late: robustness.LateAccuracy | None
    worst_class: float | None
    attacked_class: float | None  # accuracy on the class that a targeted attack is on
    attacked_class_clean: float | None  # the clean twin's on the same class
    false_positives: float | None
    amplification: float | None
    majority: Majority | None  # None: nobody attacks
    recovery: Recovery | None
    density: float | None
    overlap: float | None  # of the final mask with the clean twin's
    durability: robustness.Durability | None = None  # of a backdoor, where rounds follow its window
    survival: TriggerSurvival | None = None  # of its trigger under the final mask

    @classmethod
    def of(cls, record: RunRecord, twin: RunRecord | None) -> RunRobustness:
        """``twin``: the same run without attack, if there is one."""
        attack = record.config.get("attack")
        target = None if is_clean(attack) else robustness.attacked_class(attack)
        return cls(
            final=record.final_accuracy,
            late=robustness.late_accuracy(record),
            worst_class=robustness.worst_class(record),
            attacked_class=robustness.class_accuracy(record, target),
            attacked_class_clean=None if twin is None else robustness.class_accuracy(twin, target),
            false_positives=None if record.detection is None else record.detection.false_positive_rate,
            amplification=robustness.trust_amplification(record),
            majority=majority(record),
            recovery=None if twin is None else recovery(record, twin),
            density=record.rounds[-1].density if record.rounds else None,
            overlap=None if twin is None else mask_overlap(record, twin),
            durability=None if is_clean(attack) else robustness.durability(record),
            survival=None if record.backdoor is None else record.backdoor.survival,
        )


def run_robustness(records: Sequence[RunRecord]) -> dict[str, RunRobustness]:
    """Cell -> its numbers; clean twins are looked for among ``records``."""
    twins = clean_twins(records)
    return {record.cell: RunRobustness.of(record, twins.get(record.cell)) for record in records}


def majority(record: RunRecord) -> Majority | None:
    """None where nobody attacks, or a record does not say how cohorts or malicious clients are drawn."""
    config, attack, clients = record.config, record.config.get("attack"), len(record.client_samples)
    cohort, poisson = config.get("cohort"), config.get("sampling") == "poisson"
    if is_clean(attack) or not record.malicious_clients or not isinstance(cohort, int):
        return None
    counts = [robustness.acting_clients(attack, entry.round, clients) for entry in record.rounds]
    acting = [count for count in counts if count]
    if None in counts or not acting:
        return None
    chances = [majority_probability(clients, count, cohort, poisson=poisson) for count in acting]
    return Majority(
        clients=clients,
        malicious=max(acting),
        cohort=cohort,
        poisson=poisson,
        acting=len(acting),
        probability=max(chances),
        expected=sum(chances),
        seen=sum(map(robustness.has_majority, record.rounds)),
        pushed=any("participation" in threat.means for threat in record.threats or ()),
    )


@dataclass(frozen=True)
class Row:
    """One algorithm under one condition, over seeds; an interval is None where no seed has the number."""

    condition: Condition
    algorithm: str
    runs: tuple[RunRobustness, ...]
    final: Interval
    late: Interval | None
    spread: Interval | None
    worst_class: Interval | None
    attacked_class: Interval | None
    attacked_class_clean: Interval | None
    false_positives: Interval | None
    density: Interval | None
    overlap: Interval | None
    amplification: Interval | None

    @property
    def above(self) -> bool:
        """Whether malicious clients hold more trust than their share of the rows on average over the seeds."""
        return self.amplification is not None and self.amplification.mean > 1 + TOLERANCE

    @property
    def alarm(self) -> bool:
        """Whether they certainly do: by this row's interval alone, since a missed alarm is worse than a false one."""
        return self.above and self.amplification is not None and (self.amplification.low or 0.0) > 1

    @property
    def recoveries(self) -> list[Recovery]:
        """Of the seeds where a window ends within the run."""
        return [run.recovery for run in self.runs if run.recovery is not None]


def rows(study: Study) -> list[Row]:
    """All of them, in the order of the statistics table."""
    known, found = run_robustness(study.records), list[Row]()
    for condition in study.conditions:
        for algorithm in study.algorithms:
            runs = [known[record.cell] for record in study.runs(condition, algorithm)]
            if runs:
                found.append(_row(condition, algorithm, runs))
    return found


def _row(condition: Condition, algorithm: str, runs: Sequence[RunRobustness]) -> Row:
    return Row(
        condition,
        algorithm,
        tuple(runs),
        final=mean_interval([run.final for run in runs], share=True),
        late=_share([run.late.mean if run.late else None for run in runs]),
        spread=_positive([run.late.spread if run.late else None for run in runs]),
        worst_class=_share([run.worst_class for run in runs]),
        attacked_class=_share([run.attacked_class for run in runs]),
        attacked_class_clean=_share([run.attacked_class_clean for run in runs]),
        false_positives=_share([run.false_positives for run in runs]),
        density=_share([run.density for run in runs]),
        overlap=_share([run.overlap for run in runs]),
        amplification=_positive([run.amplification for run in runs]),
    )


def _share(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return mean_interval(known, share=True) if known else None


def _positive(values: Sequence[float | None]) -> Interval | None:
    """Of what cannot be negative."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    found = mean_interval(known)
    return found if found.low is None else replace(found, low=max(0.0, found.low))


@dataclass(frozen=True)
class Majorities:
    """Of all runs with the same clients, cohorts and acting rounds."""

    example: Majority  # its ``seen`` is not theirs
    seen: tuple[int, ...]  # rounds with a majority, of every run


def majorities(study: Study) -> list[Majorities]:
    """One for each way in which cohorts and malicious clients are drawn, the likeliest majority first."""
    found: dict[Majority, list[int]] = {}
    for record in study.records:
        one = majority(record)
        if one is not None:
            found.setdefault(replace(one, seen=0), []).append(one.seen)
    groups = [Majorities(example, tuple(seen)) for example, seen in found.items()]
    return sorted(groups, key=lambda group: (-group.example.expected, group.example.pushed))
