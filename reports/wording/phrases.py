"""Numbers and judgements in words; no word of judgement stands that the evidence does not support."""

from __future__ import annotations

from autoflip_secure.reports.statistics.paired import MARGIN, Interval, Paired, Verdict


def points(value: float, like: float | None = None) -> str:
    """A difference of shares in points, signed; with a second digit when ``like`` (or itself) is under a point."""
    digits = 2 if abs(value if like is None else like) < 0.00995 else 1
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def bracket(interval: Interval, *, signed: bool = False) -> str:
    """The 95 % interval in brackets; says so when there is none."""
    if interval.low is None or interval.high is None:
        return f"[no interval: {interval.reason}]"
    if signed:
        return f"[{points(interval.low, interval.mean)}, {points(interval.high, interval.mean)}]"
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


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
    more = f", about {pair.seeds_needed} seeds would settle it" if pair.seeds_needed else ""
    among = f" once corrected for {pair.family} comparisons" if pair.lost else ""
    return f"cannot tell{among}, difference {points(difference.mean)} {interval}{more}"


def short_verdict(verdict: Verdict) -> str:
    """The word alone, without the margin."""
    return "equal" if verdict is Verdict.EQUAL else verdict.value
