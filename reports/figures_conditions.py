"""Every condition at a glance: accuracy, and the paired difference to the baseline, each with its interval."""

from __future__ import annotations

import seaborn as sns

from reports.comparisons import Row
from reports.drawing import COLUMNS, bars, left_out, percents
from reports.figures_degradation import curves
from reports.labels import NO_ATTACK, shorten
from reports.statistics import Interval
from reports.study import Study
from reports.style import MUTED, RULE, Palette, Picture, Table, finish, panels, percent


def dots(study: Study, palette: Palette, rows: list[Row], *, difference: bool) -> Picture | None:
    """Every condition and algorithm as a point with its interval: accuracy, or paired difference."""
    base = study.baseline
    if not difference:
        drawn = {name for curve in curves(study) for _, name in curve.levels}
        if drawn and all(a in drawn or a == NO_ATTACK for a in study.attacks):
            return None  # the curves show them all
        rows = [r for r in rows if r.condition.attack not in drawn]
    rows = [r for r in rows if r.against] if difference else rows
    if not rows:
        return None
    facets = [f for f in study.facets if any(r.condition.facet == f for r in rows)][:COLUMNS]
    attacks = [a for a in study.attacks if any(r.condition.attack == a and r.condition.facet in facets for r in rows)]
    names = [a for a in study.algorithms if any(r.algorithm == a for r in rows)]
    height = len(attacks) * (0.24 + 0.13 * len(names)) + 0.5
    figure, axes = panels(1, len(facets), height=height, share_y=True, wide=len(facets) > 1)
    step = 0.8 / max(len(names), 1)
    limits, cut = _limits([_interval(r, difference) for r in rows if r.condition.facet in facets], difference)
    for ax, facet in zip(axes[0], facets, strict=True):
        for n, name in enumerate(names):
            own = {r.condition.attack: r for r in rows if r.condition.facet == facet and r.algorithm == name}
            at = [attacks.index(a) + (n - (len(names) - 1) / 2) * step for a in own]
            values = [_interval(r, difference) for r in own.values()]
            bars(ax, at, values, palette.colours[name], vertical=False)
            sns.scatterplot(
                x=[v.mean for v in values],
                y=at,
                ax=ax,
                color=palette.colours[name],
                marker=palette.markers[name],
                s=30,
                linewidth=0,
                legend=False,
                zorder=3,
            )
        ax.set_yticks(range(len(attacks)), [shorten(a) for a in attacks])
        ax.set_ylim(len(attacks) - 0.5, -0.5)
        for k in range(1, len(attacks)):
            ax.axhline(k - 0.5, color=RULE, lw=0.6)
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
        percent(ax, "x", signed=difference)
        ax.set_xlim(*limits)
        ax.set_xlabel(f"points of accuracy against {base}" if difference else "test accuracy")
        ax.set_title(shorten(facet))
        if difference:
            ax.axvline(0, color=MUTED, lw=1)
    palette.legend(figure, names, line=False)
    notes = left_out(len({r.condition.facet for r in rows}), len(facets), "partitions")
    unit = "difference (points)" if difference else "accuracy (%)"
    table = Table(
        ["facet", "attack", "algorithm", unit, "low", "high", "seeds"],
        [
            [r.condition.facet, r.condition.attack, r.algorithm, *percents(v), v.n]
            for r in rows
            if r.condition.facet in facets
            for v in [_interval(r, difference)]
        ],
    )
    if difference:
        caption = (
            f"Accuracy minus that of {base} at the same seed: mean and 95 % interval of the paired differences. "
            "Right of the line is better. Where a bar crosses the line these seeds cannot tell." + cut
        )
        alt = f"Forest plot of paired differences to {base}: {len(rows)} comparisons, each with its 95 % interval."
        return finish(figure, "paired-differences", f"Paired differences to {base}", caption, alt, table, notes)
    every = len(attacks) == len(study.attacks)
    title = "Accuracy in every condition" if every else "Accuracy under single attacks"
    caption = (
        f"Final test accuracy{'' if every else ' where no curve is drawn'}: mean and 95 % t interval over seeds.{cut}"
    )
    alt = f"Dot plot of accuracy: {len(attacks)} conditions, {len(names)} algorithms, {len(facets)} partitions."
    return finish(figure, "accuracy-by-condition", title, caption, alt, table, notes)


def _interval(row: Row, difference: bool) -> Interval:
    return row.against.difference if difference and row.against else row.accuracy


def _limits(intervals: list[Interval], difference: bool) -> tuple[tuple[float, float], str]:
    """Limits of the x axis: the means and as much of the bars again on both sides; says so when bars go on beyond."""
    means = [i.mean for i in intervals] + ([0.0] if difference else [])
    room = max(0.03, 0.6 * (max(means) - min(means)))
    low = min([i.low for i in intervals if i.low is not None] + means)
    high = max([i.high for i in intervals if i.high is not None] + means)
    limits = max(low, min(means) - room) - 0.005, min(high, max(means) + room) + 0.005
    cut = low < limits[0] or high > limits[1]
    return limits, " Bars that reach the edge go on beyond it." if cut else ""
