"""Backdoors in words: where a trigger works best, and how long it lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoflip_secure.records.robustness import Durability
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.statistics.worst_case import worst_case
from autoflip_secure.reports.study.backdoors import Planted
from autoflip_secure.reports.study.labels import NO_ATTACK, percent
from autoflip_secure.reports.wording.phrases import bracket
from autoflip_secure.reports.wording.run_robustness import rounds_until

SHOWN = 6  # algorithms; the table has all


def lasted(found: Sequence[Durability]) -> tuple[str, str] | None:
    """Rounds after the window until success is below one half, median over seeds, and what lies behind it.

    None where no round follows a window.
    """
    return rounds_until([(one.rounds, one.watched) for one in found])


def success_sentences(rows: Sequence[Planted]) -> list[str]:
    """For each algorithm the condition in which the trigger works best, the best first.

    Its interval is that of the largest of the conditions' true means, whichever it is: of the plain one at the largest
    of several means, chance would be counted as success.
    """
    own: dict[str, list[Planted]] = {}
    for row in rows:
        if row.successes and row.condition.attack != NO_ATTACK:
            own.setdefault(row.algorithm, []).append(row)
    found = sorted((_best(those) for those in own.values()), key=lambda one: -one[1].mean)
    more = [f"And {len(found) - SHOWN} more algorithms."] if len(found) > SHOWN else []
    return [*(_said(*one) for one in found[:SHOWN]), *more]


def _best(rows: Sequence[Planted]) -> tuple[Planted, Interval, int]:
    """The row with the most success, its mean with the interval of the largest, and of how many it is that."""
    failures = {str(n): {seed: 1 - v for seed, v in row.successes.items()} for n, row in enumerate(rows)}
    worst = worst_case(failures)
    low, high = (None if end is None else 1 - end for end in (worst.accuracy.high, worst.accuracy.low))
    return rows[int(worst.attack)], replace(worst.accuracy, mean=1 - worst.accuracy.mean, low=low, high=high), len(rows)


def _said(row: Planted, success: Interval, of: int) -> str:
    lone = " (one seed)" if len(row.successes) == 1 else " (no interval: one of the conditions has one seed)"
    ends = f" {bracket(success)}" if success.low is not None else lone
    most = f", the most of {of} conditions (the interval is corrected for the choice)" if of > 1 else ""
    return (
        f"{row.algorithm}, {row.condition}: the trigger sends {percent(success.mean)}{ends} of the test samples of "
        f"other classes to its target{most}; accuracy without it is {percent(row.accuracy.mean)}."
    )
