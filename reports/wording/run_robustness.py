"""Robustness beside the outcome in words: whom trust works for, what a cohort may hold, how soon a run recovers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median

from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.run_robustness import Majorities, Majority, Row
from autoflip_secure.reports.wording.phrases import ends
from autoflip_secure.terminal.counting import count_of, some

SHOWN = 6  # algorithms with alarms; the table has all
_GROUPS = 4  # ways of drawing cohorts


def times(interval: Interval) -> str:
    """An amplification and its interval, if there is one: ``2.48 [1.20, 3.76]``."""
    if interval.low is None:
        return f"{interval.mean:.2f} ({count_of(interval.n, 'seed')})"
    return f"{interval.mean:.2f} {ends(interval, lambda end: f'{end:.2f}')}"


def alarms(rows: Sequence[Row]) -> list[str]:
    """A sentence for each algorithm under which malicious clients certainly hold more trust than their updates.

    It has the place with the largest amplification, and says in how many more there is an alarm.
    """
    worst: dict[str, list[Row]] = {}
    for row in sorted((row for row in rows if row.alarm), key=lambda row: -_mean(row)):
        worst.setdefault(row.algorithm, []).append(row)
    said = [_alarm(own) for own in worst.values()]
    return [*said[:SHOWN], *([f"And {len(said) - SHOWN} more algorithms."] if len(said) > SHOWN else [])]


def _alarm(own: Sequence[Row]) -> str:
    first = own[0]
    assert first.amplification is not None
    more = f", and more than their share in {count_of(len(own) - 1, 'more place')}" if len(own) > 1 else ""
    return (
        f"Alarm: {first.algorithm} works for the attackers. Under {first.condition} malicious clients hold "
        f"{times(first.amplification)} times the trust of their share of the updates "
        f"({count_of(first.amplification.n, 'seed')}){more}."
    )


def trust(rows: Sequence[Row]) -> list[str]:
    """What is to be said of trust amplification where it is no certain alarm; nothing where it was not measured."""
    known = [row for row in rows if row.amplification is not None]
    if not known:
        return []
    unsure = sorted((row for row in known if row.above and not row.alarm), key=lambda row: -_mean(row))
    said = []
    if not any(row.alarm for row in known):
        said.append(
            "No alarm: nowhere is it shown that malicious clients hold more trust than their share of the updates."
        )
    if unsure:
        named = some([f"{_place(row)}: {times(row.amplification)}" for row in unsure if row.amplification], 3, "; ")
        said.append(f"Above 1 on average, but the seeds cannot tell whether it is, in {len(unsure)}: {named}.")
    return said


def _mean(row: Row) -> float:
    return row.amplification.mean if row.amplification else 0.0


def _place(row: Row) -> str:
    return f"{row.algorithm}, {row.condition}"


def majorities(found: Sequence[Majorities]) -> list[str]:
    """A sentence for each way in which cohorts and malicious clients are drawn."""
    said = [_majority(group.example, group.seen) for group in found[:_GROUPS] if group.example.probability > 0]
    if said:
        said.append(
            "No rule that looks at the rows of one round alone can be guaranteed to withstand such a round: it cannot "
            "know which half is honest. A memory of earlier rounds, or larger cohorts, can help."
        )
    return said


def _majority(one: Majority, seen: Sequence[int]) -> str:
    size = f"about {one.cohort}" if one.poisson else f"{one.cohort}"
    sampling = " (Poisson sampling)" if one.poisson else ""
    low, high = min(seen), max(seen)
    runs = f"{fmean(seen):.1f} on average ({low} to {high})" if low != high else f"{low} in each"
    most = "up to " if one.expected < one.acting * one.probability * (1 - 1e-9) else ""
    drawn, pushed = (" in an even draw", " where malicious clients push in") if one.pushed else ("", "")
    return (
        f"{most.capitalize()}{one.malicious} malicious of {count_of(one.clients, 'client')}, cohorts of {size}"
        f"{sampling}: at least half of a cohort is malicious with probability {most}{_chance(one.probability)}{drawn}, "
        f"in {one.expected:.1f} of {count_of(one.acting, 'round')} with an attack expected; "
        f"the runs{pushed} had {runs}."
    )


def _chance(probability: float) -> str:
    percent = 100 * probability
    return f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.1g} %"


def recovered(row: Row) -> tuple[str, str] | None:
    """How many rounds after the window accuracy is back, median over seeds, and what lies behind it.

    None where no window ends within the run.
    """
    return rounds_until(row.recoveries)


def rounds_until(found: Sequence[tuple[int | None, int]]) -> tuple[str, str] | None:
    """Of (rounds until something happened, rounds watched) by seed the median, and what lies behind it; None: of none.

    >>> rounds_until([(3, 9), (5, 9), (None, 9)])
    ('5', '(not within 9 rounds in 1 of 3 seeds)')
    """
    if not found:
        return None
    middle = median(math.inf if rounds is None else rounds for rounds, _ in found)
    watched, known = _span([seen for _, seen in found]), [rounds for rounds, _ in found if rounds is not None]
    value = f"{middle:g}" if math.isfinite(middle) else f"> {watched}"
    if len(known) < len(found):
        late = len(found) - len(known)
        return value, f"(not within {watched} rounds in {late} of {count_of(len(found), 'seed')})"
    return value, f"({_span(known)}, {count_of(len(found), 'seed')})"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
