"""Backdoors over seeds: how well they work beside clean accuracy, how long they last, what pruning leaves of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoflip_secure.records.robustness import Durability
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.run_robustness import RunRobustness, run_robustness
from autoflip_secure.reports.study.study import Condition, Study


@dataclass(frozen=True)
class Planted:
    """One algorithm under one backdoor, over seeds; an interval is None where no seed has the number."""

    condition: Condition
    algorithm: str
    success: Interval | None
    accuracy: Interval
    durabilities: tuple[Durability, ...]  # of the seeds where rounds follow the window
    neurons: Interval | None  # of the trigger's neurons, the share of weights that the mask keeps
    weights: Interval | None  # of the weights that read what the trigger changes
    layer: Interval | None  # of all weights of that layer
    successes: Mapping[int, float]  # by seed


def planted(study: Study) -> list[Planted]:
    """All runs with a trigger, in the order of the statistics table; empty without a backdoor."""
    if not any(record.has("backdoor") for record in study.records):
        return []
    known, found = run_robustness(study.records), list[Planted]()
    for condition in study.conditions:
        for algorithm in study.algorithms:
            records = [record for record in study.runs(condition, algorithm) if record.backdoor is not None]
            if records:
                found.append(_planted(study, condition, algorithm, records, [known[one.cell] for one in records]))
    return found


def _planted(
    study: Study, condition: Condition, algorithm: str, records: Sequence[RunRecord], runs: Sequence[RunRobustness]
) -> Planted:
    found = {record.seed: study.outcome.attack_success(record) for record in records}
    survivals = [run.survival for run in runs if run.survival is not None]
    return Planted(
        condition,
        algorithm,
        success=_share([*found.values()]),
        accuracy=mean_interval([study.accuracy(record) for record in records], share=True),
        durabilities=tuple(run.durability for run in runs if run.durability is not None),
        neurons=_share([one.kept for one in survivals]),
        weights=_share([one.kept_reading for one in survivals]),
        layer=_share([one.kept_overall for one in survivals]),
        successes={seed: value for seed, value in found.items() if value is not None},
    )


def _share(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return mean_interval(known, share=True) if known else None
