"""Every condition at a glance: accuracy, and the paired difference to the baseline, each with its interval."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autoflip_secure.reports.figures.drawing import COLUMNS, DIRECT, at_point, bars, fitting, left_out
from autoflip_secure.reports.figures.marks import belonging, series
from autoflip_secure.reports.figures.style import MUTED, RULE, Palette, Picture, finish, panels, percent
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.comparisons import Row
from autoflip_secure.reports.study.labels import NO_ATTACK, told_apart
from autoflip_secure.reports.study.levels import against_words
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.sweep_curves import curves
from autoflip_secure.reports.tables.text import Table, percents

NAMED_ATTACKS = 4  # panels below each other when the rows are algorithms
Key = tuple[str, str, str]  # facet, attack, algorithm
Points = dict[Key, Interval]  # mean and interval


def dots(study: Study, palette: Palette, rows: list[Row], *, difference: bool) -> Picture | None:
    """Every condition and algorithm as a point with its interval: accuracy, or paired difference."""
    base = against_words(study)
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
    limits, cut = limits_of([_interval(r, difference) for r in rows if r.condition.facet in facets], difference)
    own = {(r.condition.facet, r.condition.attack, r.algorithm): _interval(r, difference) for r in rows}
    label = f"points of accuracy against {base}" if difference else study.measured
    hollow = {
        key for r in rows if difference and r.against and not r.against.settled for key in [(*r.condition, r.algorithm)]
    }
    figure = forest(
        palette, facets, attacks, names, own, limits=limits, label=label, difference=difference, hollow=hollow
    )
    notes = left_out(len({r.condition.facet for r in rows}), len(facets), "settings")
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
            "Right of the line is better. A filled mark is better, worse or equal after correction for "
            f"{sum(r.against is not None for r in rows)} comparisons; a hollow one is not settled, wherever its "
            f"bar, which is not corrected, lies.{cut}"
        )
        alt = f"Forest plot of paired differences to {base}: {len(rows)} comparisons, each with its 95 % interval."
        return finish(figure, "paired-differences", f"Paired differences to {base}", caption, alt, table, notes)
    every = len(attacks) == len(study.attacks)
    title = "Accuracy in every condition" if every else "Accuracy under single attacks"
    where = "" if every else " where no curve is drawn"
    caption = f"{study.measured.capitalize()}{where}: mean and 95 % t interval over seeds.{cut}"
    alt = f"Dot plot of accuracy: {len(attacks)} conditions, {len(names)} algorithms, {len(facets)} settings."
    return finish(figure, "accuracy-by-condition", title, caption, alt, table, notes)


def forest(
    palette: Palette,
    facets: list[str],
    attacks: list[str],
    names: list[str],
    own: Points,
    *,
    limits: tuple[float, float],
    label: str,
    difference: bool,
    hollow: Collection[Key] = (),
) -> Figure:
    """Points with intervals: a column of panels per facet; rows are attacks, or algorithms where there are many.

    Points in ``hollow`` are not filled.
    """
    draw = _named if len(names) > DIRECT and len(attacks) <= NAMED_ATTACKS else _dodged
    figure, axes = draw(palette, facets, attacks, names, own, hollow, difference=difference)
    for ax in axes.flat:
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
        percent(ax, "x", signed=difference)
        ax.set_xlim(*limits)
        if difference:
            ax.axvline(0, color=MUTED, lw=1)
    if len(facets) > 2:
        figure.supxlabel(label, fontsize=9, color=MUTED)
    for ax in axes[-1] if len(facets) <= 2 else []:
        ax.set_xlabel(label)
    return figure


def _dodged(
    palette: Palette,
    facets: list[str],
    attacks: list[str],
    names: list[str],
    own: Points,
    hollow: Collection[Key],
    *,
    difference: bool,
) -> tuple[Figure, np.ndarray]:
    """A panel per facet, a row per attack, the algorithms beside each other in the row; a legend names them."""
    height = len(attacks) * (0.24 + 0.13 * len(names)) + 0.5
    figure, axes = panels(1, len(facets), height=height, share_y=True, wide=len(facets) > 1)
    step = 0.8 / max(len(names), 1)
    for ax, facet in zip(axes[0], facets, strict=True):
        for n, name in enumerate(names):
            found = {a: own[facet, a, name] for a in attacks if (facet, a, name) in own}
            at = [attacks.index(a) + (n - (len(names) - 1) / 2) * step for a in found]
            empty = [(facet, a, name) in hollow for a in found]
            _points(ax, palette, name, list(found.values()), at, empty, difference=difference)
        ax.set_yticks(range(len(attacks)), told_apart(attacks, 40).values())
        ax.set_ylim(len(attacks) - 0.5, -0.5)
        for k in range(1, len(attacks)):
            ax.axhline(k - 0.5, color=RULE, lw=0.6)
        ax.set_title(fitting(facet, len(facets)))
    palette.legend(figure, names, line=False)
    return figure, axes


def _named(
    palette: Palette,
    facets: list[str],
    attacks: list[str],
    names: list[str],
    own: Points,
    hollow: Collection[Key],
    *,
    difference: bool,
) -> tuple[Figure, np.ndarray]:
    """A panel per attack and facet, a row per algorithm with its name: for more algorithms than colours can tell."""
    height = 0.45 + 0.19 * len(names)
    figure, axes = panels(len(attacks), len(facets), height=height, share_y=True, wide=len(facets) > 1)
    for i, attack in enumerate(attacks):
        for ax, facet in zip(axes[i], facets, strict=True):
            for n, name in enumerate(names):
                if (facet, attack, name) in own:
                    key = (facet, attack, name)
                    _points(ax, palette, name, [own[key]], [n], [key in hollow], difference=difference)
            ax.set_yticks(range(len(names)), told_apart(names).values())
            ax.set_ylim(len(names) - 0.4, -0.6)
            ax.set_title(fitting(f"{facet} · {attack}", len(facets)))
    return figure, axes


def _points(
    ax: Axes,
    palette: Palette,
    name: str,
    values: list[Interval],
    at: Sequence[float],
    hollow: Sequence[bool],
    *,
    difference: bool,
) -> None:
    colour = palette.colours[name]
    with belonging(ax, name):
        bars(ax, at, values, colour, vertical=False)
    for value, place, empty in zip(values, at, hollow, strict=True):
        point = ax.scatter(
            [value.mean], [place], marker=palette.markers[name], s=26 if empty else 30, zorder=3,
            facecolors="none" if empty else colour, edgecolors=colour, linewidths=1.2 if empty else 0,
        )  # fmt: skip
        series(point, name, [at_point(name, value, share=not difference)])


def _interval(row: Row, difference: bool) -> Interval:
    return row.against.difference if difference and row.against else row.accuracy


def limits_of(intervals: list[Interval], difference: bool) -> tuple[tuple[float, float], str]:
    """Limits of the x axis: the means and as much of the bars again on both sides; says so when bars go on beyond."""
    means = [i.mean for i in intervals] + ([0.0] if difference else [])
    room = max(0.03, 0.6 * (max(means) - min(means)))
    low = min([i.low for i in intervals if i.low is not None] + means)
    high = max([i.high for i in intervals if i.high is not None] + means)
    limits = max(low, min(means) - room) - 0.005, min(high, max(means) + room) + 0.005
    cut = low < limits[0] or high > limits[1]
    return limits, " Bars that reach the edge extend beyond it." if cut else ""
