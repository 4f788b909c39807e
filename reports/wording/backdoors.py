"""Backdoors in words: where a trigger works best, and how long it lasts."""

from __future__ import annotations

from collections.abc import Sequence

from autoflip_secure.records.robustness import Durability
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
    """For each algorithm the condition in which the trigger works best, the best first."""
    best: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row.success is None or row.condition.attack == NO_ATTACK:
            continue
        ends = f" {bracket(row.success)}" if row.success.low is not None else " (one seed)"
        said = (
            f"{row.algorithm}, {row.condition}: the trigger sends {percent(row.success.mean)}{ends} of the test "
            f"samples of other classes to its target; accuracy without it is {percent(row.accuracy.mean)}."
        )
        if row.success.mean > best.get(row.algorithm, (-1.0, ""))[0]:
            best[row.algorithm] = row.success.mean, said
    ordered = [sentence for _, sentence in sorted(best.values(), key=lambda one: -one[0])]
    more = [f"And {len(ordered) - SHOWN} more algorithms."] if len(ordered) > SHOWN else []
    return [*ordered[:SHOWN], *more]
