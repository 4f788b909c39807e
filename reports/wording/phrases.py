"""Numbers and judgements in words; no judgement goes beyond what the evidence supports."""

from __future__ import annotations

from collections.abc import Callable

from autoflip_secure.reports.statistics.intervals import MARGIN, Interval
from autoflip_secure.reports.statistics.paired import Paired, Verdict


def points(value: float, like: float | None = None) -> str:
    """A difference of shares in points, signed; with a second digit when ``like`` (or itself) is under a point."""
    digits = 2 if abs(value if like is None else like) < 0.00995 else 1
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def ends(interval: Interval, form: Callable[[float], str]) -> str:
    """The interval in brackets, each end as ``form`` writes it; says so when there is none."""
    if interval.low is None or interval.high is None:
        return f"[no interval: {interval.reason}]"
    return f"[{form(interval.low)}, {form(interval.high)}]"


def bracket(interval: Interval, *, signed: bool = False) -> str:
    """The 95 % interval of a share in per cent, or (``signed``) of a difference of shares in points."""
    return ends(interval, lambda end: points(end, interval.mean) if signed else f"{100 * end:.1f}")


def settling(seeds: int | None) -> str:
    """How many seeds would settle it, behind what cannot be told; nothing where that is not known."""
    return f", about {seeds} seeds would settle it" if seeds else ""


def judgement(pair: Paired) -> str:
    """A paired difference in words: the direction only if the evidence supports it, corrected for its family."""
    difference = pair.difference
    size = f"{abs(100 * difference.mean):.{2 if abs(difference.mean) < 0.00995 else 1}f} points"
    interval = bracket(difference, signed=True)
    if pair.verdict is Verdict.BETTER:
        return f"better by {size} {interval}"
    if pair.verdict is Verdict.WORSE:
        return f"worse by {size} {interval}"
    if pair.verdict is Verdict.EQUAL:
        return f"equal within {100 * MARGIN:g} points, difference {points(difference.mean)} {interval}"
    among = f" once corrected for {pair.family} comparisons" if pair.lost else ""
    told = f"difference {points(difference.mean)} {interval}{settling(pair.seeds_needed)}"
    return f"{pair.verdict.value}{among}, {told}"


def mark(pair: Paired) -> str:
    """``▲``, ``▼``: a direction; hollow (``△``, ``▽``): one of its own interval, which the correction took away."""
    up = pair.difference.mean > 0
    if pair.verdict in (Verdict.BETTER, Verdict.WORSE):
        return "▲" if up else "▼"
    if pair.lost:
        return "△" if up else "▽"
    return "=" if pair.verdict is Verdict.EQUAL else "?"


HOLLOW = (
    "△ and ▽ (hollow): the interval alone lies above or below zero, but correction for the number of comparisons "
    "leaves no direction."
)


def short_verdict(verdict: Verdict) -> str:
    """The word alone, without the margin."""
    return "equal" if verdict is Verdict.EQUAL else verdict.value
