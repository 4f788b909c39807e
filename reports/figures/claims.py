"""Effects of all claims with their intervals, in one picture: a panel for each unit, a row for each claim."""

from __future__ import annotations

from collections.abc import Sequence

from autoflip_secure.reports.claims.findings import Answer
from autoflip_secure.reports.claims.portfolio import AnsweredClaim
from autoflip_secure.reports.claims.words import VERDICTS, effect
from autoflip_secure.reports.figures.drawing import bars
from autoflip_secure.reports.figures.marks import naming
from autoflip_secure.reports.figures.style import MUTED, WIDTH, Picture, finish, panels
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.labels import shorten
from autoflip_secure.reports.tables.text import Table

_LOOKS = {
    Answer.HOLDS: ("#029e73", "s"),
    Answer.DOES_NOT_HOLD: ("#d55e00", "D"),
    Answer.CANNOT_TELL: ("#7d848d", "o"),
}
_CAPTION = (
    "The place that decides each claim, and its effect. Thick: its 95 % interval, on which support rests; thin: the "
    "wider one that holds for all places of the claim together, on which refutation rests. Squares are supported, "
    "diamonds refuted, circles inconclusive. A short upright line is the bound from which a claim is supported, the "
    "long one zero. Units differ from panel to panel. Every place is in the table."
)
_ROW = 0.24  # inches


def effects(tested: Sequence[AnsweredClaim]) -> Picture | None:
    """The picture; None: nothing was tested."""
    groups: dict[str, list[AnsweredClaim]] = {}
    for one in tested:
        if one.deciding is not None:
            groups.setdefault(one.asked.unit.axis, []).append(one)
    if not groups:
        return None
    figure, axes = panels(len(groups), 1, height=1.0, share_x=False, share_y=False)
    heights = [_ROW * len(group) + 0.55 for group in groups.values()]
    axes[0, 0].get_gridspec().set_height_ratios(heights)
    figure.set_size_inches(WIDTH, sum(heights) + 0.45)
    for ax, (axis, group) in zip(axes[:, 0], groups.items(), strict=True):
        intervals = []
        for at, one in enumerate(group):
            found = one.deciding
            assert found is not None
            unit = one.asked.unit
            interval, wider = (_scaled(i, unit.scale) for i in (found.interval, found.simultaneous or found.interval))
            intervals.append(wider)
            colour, marker = _LOOKS[one.claim.answer]
            bars(ax, [at], [wider], colour, vertical=False)
            if interval.low is not None and interval.high is not None:
                ax.hlines([at], [interval.low], [interval.high], color=colour, lw=3)
            point = ax.scatter([interval.mean], [at], s=34, zorder=3, color=colour, marker=marker)
            naming(point, f"{one.asked.short}: {effect(found, unit)}")
            if found.bound is not None and found.bound.support != 0:
                ax.plot([unit.scale * found.bound.support] * 2, [at - 0.36, at + 0.36], color=MUTED, lw=1.2)
        ax.axvline(0, color=MUTED, lw=0.9)
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
        ax.set_yticks(range(len(group)), [shorten(one.asked.short, 40) for one in group])
        ax.set_ylim(len(group) - 0.4, -0.6)
        ax.set_xlabel(axis)
        ax.set_xlim(*_limits(intervals))
    columns = ["claim", "source", "place", "unit", "effect", "low", "high", "low of one place", "high of one place"]
    columns += ["supported from", "refuted below", "seeds", "verdict of the place", "verdict of the claim"]
    rows = [row for one in tested for row in _rows(one)]
    counted = {answer: sum(one.claim.answer is answer for one in tested) for answer in _LOOKS}
    alt = f"Forest plot: {', '.join(f'{n} claims {VERDICTS[a]}' for a, n in counted.items())}."
    return finish(figure, "effects-of-claims", "Effects, with intervals", _CAPTION, alt, Table(columns, rows))


def _rows(one: AnsweredClaim) -> list[list[object]]:
    """Every place of a claim, every digit."""
    unit, found = one.asked.unit, list[list[object]]()
    for place in one.claim.evidence:
        both = [_scaled(i, unit.scale) for i in (place.simultaneous or place.interval, place.interval)]
        bound = (None, None) if place.bound is None else (place.bound.support, place.bound.refute)
        found.append(
            [
                one.asked.key, one.asked.source, place.where, unit.name, both[0].mean, both[0].low, both[0].high,
                both[1].low, both[1].high, *(None if b is None else unit.scale * b for b in bound), place.interval.n,
                VERDICTS[place.answer], VERDICTS[one.claim.answer],
            ]
        )  # fmt: skip
    return found


def _scaled(interval: Interval, scale: float) -> Interval:
    low, high = (None if end is None else scale * end for end in (interval.low, interval.high))
    return Interval(scale * interval.mean, low, high, interval.n, interval.reason)


def _limits(intervals: Sequence[Interval]) -> tuple[float, float]:
    """All means and zero, and as much of the bars as keeps the others legible."""
    means = [0.0, *(i.mean for i in intervals)]
    room = max(1e-3, 0.6 * (max(means) - min(means)), 0.1 * max(map(abs, means)))
    low = max(min([*means, *(i.low for i in intervals if i.low is not None)]), min(means) - room)
    high = min(max([*means, *(i.high for i in intervals if i.high is not None)]), max(means) + room)
    pad = 0.03 * (high - low) or 0.01
    return low - pad, high + pad
