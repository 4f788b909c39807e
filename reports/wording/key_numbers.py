"""The numbers that answer the question of a sweep: three at most, each with its interval and what it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoflip_secure.reports.statistics.paired import Paired
from autoflip_secure.reports.study.scoreboard import Standing
from autoflip_secure.reports.wording.phrases import bracket, points
from autoflip_secure.terminal.counting import count_of

MOST = 3


@dataclass(frozen=True)
class KeyNumber:
    """One number of the first screen."""

    label: str  # what it is of: "AutoFLIP against FedAvg, under attack"
    value: str  # "+12.3 points", with its unit
    interval: str = ""  # "[+8.1, +16.5]"; empty: counted rather than sampled, or a single seed
    note: str = ""  # over what: "mean over 8 conditions, 5 seeds"
    pair: Paired | None = None  # the comparison behind it, whose word is corrected; None: no comparison


def of_standings(heads: Sequence[Standing], baseline: str | None) -> tuple[KeyNumber, ...]:
    """The first algorithm of the headline beside the baseline: under attack, without, and what its clients send."""
    if not heads or baseline is None or heads[0].algorithm == baseline:
        return ()
    head, found = heads[0], []
    for summary, where in ((head.attacked, "under attack"), (head.clean, "without attack")):
        if summary is not None and summary.against is not None:
            found.append(
                difference(f"{head.algorithm} against {baseline}, {where}", summary.against, summary.conditions)
            )
    if head.uplink is not None:
        found.append(
            KeyNumber(
                f"Bytes that clients of {head.algorithm} send", f"{100 * head.uplink:.0f} %", note=f"of {baseline}'s"
            )
        )
    return tuple(found[:MOST])


def difference(label: str, pair: Paired, conditions: int) -> KeyNumber:
    """A paired difference of accuracies, in points."""
    one = pair.difference
    seeds = count_of(one.n, "seed")
    over = f"mean over {conditions} conditions, {seeds}" if conditions > 1 else seeds
    interval = bracket(one, signed=True) if one.low is not None else ""
    return KeyNumber(label, f"{points(one.mean)} points", interval, over, pair)
