r"""What it takes to get there: rounds, bytes and operations until a run is as good as the baseline nearly ends.

The goal of seed s is :math:`0.9\, a_s`, with :math:`a_s` the accuracy that the baseline comes to at that seed under the
same condition. A run arrives with its first evaluation that reaches the goal, so rounds are known to one step of
evaluation. Everything up to that round counts, what came before round 1 (exploration, what clients send for a first
mask, a client that begins alone) included. A run that never arrives has spent all that it had: its amounts are lower
bounds, and a mean over such runs has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.study import Condition, Study

SHARE = 0.9
"""Of the baseline's accuracy: the goal."""
ROUNDS = "rounds"
VALUES, BITMASK = "bytes, live values", "bytes, with bitmask"
DENSE, SPARSE, COMPACTED = (f"operations, {kind}" for kind in ("dense", "sparse", "compacted"))
UNITS = {ROUNDS: "rounds", VALUES: "MB", BITMASK: "MB", **dict.fromkeys((DENSE, SPARSE, COMPACTED), "10⁹ FLOPs")}


@dataclass(frozen=True)
class Arrival:
    """One run on its way to the goal."""

    arrived: bool  # within the run
    round: int  # whose evaluation reached it; the last one where none did
    spent: dict[str, float]  # by amount, in its unit; operations are missing where they are not known


@dataclass(frozen=True)
class Spent:
    """One amount of one algorithm under one condition, over seeds."""

    mean: Interval  # no ends where a run never arrived: then its mean is a lower bound
    ratio: Interval | None  # to the baseline's at the same seed, geometric mean; None: it is the baseline, or no bound
    arrived: int
    runs: int


def first_reaching(run: RunRecord, goal: float) -> int | None:
    """The first evaluated round whose accuracy is ``goal`` or more; None: there is none."""
    return next((e.round for e in run.rounds if e.test_accuracy is not None and e.test_accuracy >= goal), None)


def arrival(run: RunRecord, goal: float) -> Arrival:
    """When ``run`` reaches ``goal``, and what all clients together have sent, received and computed until then."""
    found = first_reaching(run, goal)
    last = found or (run.rounds[-1].round if run.rounds else 0)
    rounds = [entry for entry in run.rounds if entry.round <= last]
    before = [one for one in (run.exploration, run.preparation, run.lone_training) if one is not None]
    sent = [one.bytes for one in (*before, *rounds)]
    spent = {
        ROUNDS: float(last),
        VALUES: sum(one.uplink_values + one.downlink_values for one in sent) / 1e6,
        BITMASK: sum(one.uplink_bitmask + one.downlink_bitmask for one in sent) / 1e6,
    }
    for name, kind in ((DENSE, "dense"), (SPARSE, "sparse"), (COMPACTED, "compacted")):
        counts = [one.flops if isinstance(one.flops, int | None) else getattr(one.flops, kind) for one in before]
        known = [count for count in (*counts, *(getattr(e.flops, kind) for e in rounds)) if count is not None]
        if len(known) == len(sent):
            spent[name] = sum(known) / 1e9
    return Arrival(found is not None, last, spent)


def arrivals(study: Study, condition: Condition) -> dict[str, dict[int, Arrival]]:
    """Algorithm -> seed -> its way to the goal, of seeds that the baseline has too; empty without a baseline."""
    goals = {seed: SHARE * value for seed, value in study.values(condition, study.baseline or "").items()}
    found = {
        name: {run.seed: arrival(run, goals[run.seed]) for run in study.runs(condition, name) if run.seed in goals}
        for name in study.algorithms
    }
    return {name: own for name, own in found.items() if own}


def spent(own: Mapping[int, Arrival], base: Mapping[int, Arrival] | None, amount: str) -> Spent | None:
    """One amount over seeds, and its ratio to that of ``base``; None: it is not known of every run."""
    values = {seed: one.spent[amount] for seed, one in own.items() if amount in one.spent}
    if not values or len(values) < len(own):
        return None
    arrived = sum(one.arrived for one in own.values())
    mean = _above_zero(mean_interval([*values.values()]))
    if arrived < len(own):
        mean = Interval(mean.mean, None, None, mean.n, f"{len(own) - arrived} of {len(own)} runs never got there")
    whole = base is not None and arrived == len(own)
    pairs = [(value, base[seed].spent.get(amount)) for seed, value in values.items()] if base and whole else []
    return Spent(mean, _ratio([(a, b) for a, b in pairs if b]), arrived, len(own))


def _ratio(pairs: Sequence[tuple[float, float]]) -> Interval | None:
    """Geometric mean of a / b with the t interval of its logarithm."""
    if not pairs or any(a <= 0 or b <= 0 for a, b in pairs):
        return None
    logs = mean_interval([math.log(a / b) for a, b in pairs])
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return Interval(math.exp(logs.mean), low, high, logs.n, logs.reason)


def _above_zero(interval: Interval) -> Interval:
    if interval.low is None:
        return interval
    return Interval(interval.mean, max(0.0, interval.low), interval.high, interval.n)
