"""Where an algorithm stands among many: what their differences at the same seeds leave possible.

A sentence about two algorithms answers no question about three, let alone sixteen. The ranks of the statistics table
are for all pairs of one condition at once; what is said here speaks of all conditions, so it takes those that are
corrected for the pairs of all of them (:func:`~.ranks_of_all`).
"""

from __future__ import annotations

from collections.abc import Sequence

from autoflip_secure.reports.study.comparisons import Row

_CONDITIONS = 4  # told in a sentence


def headline(rows: Sequence[Row], algorithm: str, named: int) -> str:
    """What follows the verdict in the headline; "" where some condition has none beside the ``named`` algorithms."""
    own = _places(rows, algorithm, named)
    if not own:
        return ""
    below = sum(row.place is not None and row.place[0] > 1 for row in own)
    first = sum(row.place == (1, 1) for row in own)
    among = f"among {max(row.ranked for row in own)} algorithms"
    if _indistinct(own):
        return f"not distinguishable {among}"
    if first == len(own):
        return f"{among} above all others{_under(first, len(own))}"
    parts = [f"above all others{_under(first, len(own))}"] if first else []
    parts.append(f"below some{_under(below, len(own))}" if below else "shown to be below none")
    return f"{among} {' and '.join(parts)}"


def sentence(rows: Sequence[Row], algorithm: str, named: int) -> str:
    """Its places, condition by condition; "" where some condition has none beside the ``named`` algorithms."""
    own = _places(rows, algorithm, named)
    if not own:
        return ""
    if _indistinct(own):
        others = max(row.ranked for row in own) - 1
        return f"{algorithm} is not distinguishable from any of {others} others{_under(len(own), len(own))}."
    told = [f"{row.placing} ({row.condition.facet}, {row.condition.attack})" for row in own[:_CONDITIONS]]
    more = f", and {len(own) - len(told)} more in the statistics table" if len(own) > len(told) else ""
    pairs = "all pairs" if len(own) == 1 else f"all pairs under all {len(own)} conditions at once"
    return f"Places of {algorithm} that the seeds leave possible, corrected for {pairs}: {', '.join(told)}{more}."


def _indistinct(own: Sequence[Row]) -> bool:
    return all(row.place == (1, row.ranked) for row in own)


def _places(rows: Sequence[Row], algorithm: str, named: int) -> list[Row]:
    own = [row for row in rows if row.algorithm == algorithm and row.place is not None]
    return own if all(row.ranked > named for row in own) else []


def _under(number: int, of: int) -> str:
    if of == 1:
        return ""
    return f" under {number} of {of} conditions" if number < of else f" under all {of} conditions"
