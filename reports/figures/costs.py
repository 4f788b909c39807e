"""Accuracy against cost (Fig. 8): bytes as encoded for the wire, operations dense, sparse and compacted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from autoflip_secure.records.run import Costs
from autoflip_secure.reports.figures.drawing import (
    LINES,
    SEEDS_FOR_BARS,
    Group,
    at_point,
    fit_groups,
    fitting,
    left_out,
    spokesmen,
)
from autoflip_secure.reports.figures.marks import belonging, series
from autoflip_secure.reports.figures.style import MUTED, Palette, Picture, finish, panels, percent
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.labels import NO_ATTACK
from autoflip_secure.reports.study.pareto import front
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.tables.text import Table, percents

COLUMNS = 3
FRONT_LINE = (0, (2, 2))
Cost = Callable[[Costs], float | None]
Kinds = dict[str, tuple[str, Cost]]
BYTES: Kinds = {
    "live values": ("o", lambda c: (c.bytes.uplink_values + c.bytes.downlink_values) / 1e6),
    "with bitmask": ("D", lambda c: (c.bytes.uplink_bitmask + c.bytes.downlink_bitmask) / 1e6),
}


def _billions(operations: int | None) -> float | None:
    return None if operations is None else operations / 1e9


OPERATIONS: Kinds = {
    "dense": ("s", lambda c: _billions(c.flops.dense)),
    "compacted": ("D", lambda c: _billions(c.flops.compacted)),
    "sparse": ("o", lambda c: _billions(c.flops.sparse)),
}
FRONTS = ("with bitmask", "compacted")  # what can be had without a mask that is known for nothing, or sparse kernels


def against_bytes(study: Study, palette: Palette) -> Picture | None:
    """Accuracy against megabytes on the wire, both directions."""
    caption = (
        "Accuracy against megabytes sent and received in the whole run, exploration included, as actually encoded. "
        "Live values: masks that only shrink are taken to be known, and do not travel. With bitmask: the mask is in "
        "every message."
    )
    return _costs(study, palette, BYTES, "MB", "megabytes, whole run", "bytes", caption)


def against_operations(study: Study, palette: Palette) -> Picture | None:
    """Accuracy against operations of local training, dense, compacted and sparse."""
    caption = (
        "Accuracy against operations of all local training. The three ways to count are three different claims: "
        "dense is what a plain implementation with masks computes, compacted is the smaller dense model that is left "
        "when dead units are removed, sparse counts only live weights and needs sparse kernels to save time."
    )
    if all(r.costs.flops.dense is None for r in study.records):
        return None
    return _costs(study, palette, OPERATIONS, "10⁹ FLOPs", "10⁹ operations, whole run", "operations", caption)


def _costs(
    study: Study, palette: Palette, kinds: Kinds, unit: str, label: str, name: str, caption: str
) -> Picture | None:
    facets = list(study.facets)[:COLUMNS]
    places = {f: next(c for c in study.conditions if c.facet == f) for f in facets}
    kind = next(own for own in kinds if own in FRONTS)
    points = {facet: _points(study, condition, kinds[kind][1]) for facet, condition in places.items()}
    fronts = {facet: front(found) for facet, found in points.items()}
    names = _drawn(study, fronts)
    figure, axes = panels(1, len(facets), height=2.7, share_y=False)
    rows: list[list[object]] = []
    for ax, (facet, condition) in zip(axes[0], places.items(), strict=True):
        _panel(study, palette, condition, kinds, ax, rows, unit, names)
        _join(ax, [points[facet][name] for name in fronts[facet]])
        ax.set_title(fitting(facet if condition.attack == NO_ATTACK else f"{facet} · {condition.attack}", len(facets)))
        percent(ax)
        ax.set_xlabel(label)
    axes[0, 0].set_xlim(0, 1.03 * axes[0, 0].get_xlim()[1])  # all panels share the axis, and a mark at its end is whole
    axes[0, 0].set_ylabel(study.measured)
    groups: list[Group] = [
        ([ax], [[(0.0, [study.accuracy(r) for r in study.runs(c, a)])] for a in names if study.runs(c, a)])
        for ax, c in zip(axes[0], places.values(), strict=True)
    ]
    cut, apart = fit_groups(groups)
    marks = [
        Line2D([], [], color=MUTED, marker=m, lw=0, ms=5.5, mfc="none" if m == "o" else MUTED, label=kind)
        for kind, (m, _) in kinds.items()
    ]
    if any(len(found) > 1 for found in fronts.values()):
        marks.append(Line2D([], [], color=MUTED, lw=1.2, ls=FRONT_LINE, label=f"Pareto front, {kind}"))
    palette.legend(figure, [a for a in names if any(r[1] == a for r in rows)], colour=True, more=marks)
    caption += (
        f" Mean over seeds; bars (from three seeds on): 95 % interval of accuracy.{cut} The Pareto front is that of "
        f"the means of all algorithms, at the cost {kind}: whatever is not on it, something else is at least as "
        "accurate for no more. Neighbours on it may differ by chance; the statistics table tells which do not."
    )
    alt = f"Scatter plots of accuracy against {name}. " + _words(rows, next(iter(kinds)))
    columns = ["condition", "algorithm", "cost", "unit", "amount", f"share of the baseline's {next(iter(kinds))} (%)"]
    columns += ["accuracy (%)", "low (%)", "high (%)", "seeds", "on the Pareto front"]
    on = {(str(c), a, kind): "yes" if a in fronts[f] else "no" for f, c in places.items() for a in study.algorithms}
    rows = [[*row, on.get((str(row[0]), str(row[1]), str(row[2])))] for row in rows]
    notes = apart + left_out(len(study.facets), len(facets), "settings")
    if len(names) < len(study.algorithms):
        notes.append(
            f"{len(names)} of {len(study.algorithms)} algorithms are drawn, all of the front among them; the table of "
            "the figure has all."
        )
    return finish(figure, f"cost-{name}", f"Accuracy against {name}", caption, alt, Table(columns, rows), notes)


def _panel(
    study: Study,
    palette: Palette,
    condition: Condition,
    kinds: Kinds,
    ax: Axes,
    rows: list[list[object]],
    unit: str,
    names: list[str],
) -> None:
    """Draw ``names``; ``rows`` gets all algorithms."""
    base = [r.costs for r in study.runs(condition, study.baseline)] if study.baseline else []
    for place, algorithm in enumerate(study.algorithms):
        above = 2 + (len(study.algorithms) - place) / 10  # the first ones, which the report is about, on top
        runs = study.runs(condition, algorithm)
        if not runs:
            continue
        accuracy = mean_interval([study.accuracy(r) for r in runs], share=True)
        colour = palette.colours[algorithm]
        drawn = []
        for kind, (marker, cost) in kinds.items():
            amounts = [v for r in runs if (v := cost(r.costs)) is not None]
            if not amounts:
                continue
            amount = float(np.mean(amounts))
            reference = [v for c in base if (v := next(iter(kinds.values()))[1](c)) is not None]
            share = 100 * amount / float(np.mean(reference)) if reference and np.mean(reference) else None
            rows.append([str(condition), algorithm, kind, unit, amount, share, *percents(accuracy), accuracy.n])
            drawn.append((amount, marker))
        if algorithm not in names:
            continue
        if len(drawn) > 1:
            ends = sorted({amount for amount, _ in drawn})
            with belonging(ax, algorithm):
                ax.plot(ends, [accuracy.mean] * len(ends), color=colour, lw=1, alpha=0.5, zorder=above)
        for amount, marker in drawn:
            (point,) = ax.plot(
                [amount],
                [accuracy.mean],
                marker=marker,
                ms=6,
                color=colour,
                mfc="none" if marker == "o" else colour,
                mew=1.4,
                lw=0,
                zorder=above,
            )
            counted = next(kind for kind, (own, _) in kinds.items() if own == marker)
            series(point, algorithm, [f"{at_point(algorithm, accuracy)}; {amount:.4g} {unit}, {counted}"])
            if accuracy.low is not None and accuracy.high is not None and accuracy.n >= SEEDS_FOR_BARS:
                with belonging(ax, algorithm):
                    ax.vlines(amount, accuracy.low, accuracy.high, color=colour, lw=1, alpha=0.6, zorder=above)


def _drawn(study: Study, fronts: Mapping[str, list[str]]) -> list[str]:
    """The baseline, what the report is about and every front; then others, as long as there is room."""
    surely = {study.baseline, *study.headline, *(name for found in fronts.values() for name in found)}
    more = [a for a in spokesmen(study) if a not in surely]
    return [a for a in study.algorithms if a in {*surely, *more[: max(0, LINES - len(surely - {None}))]}]


def _points(study: Study, condition: Condition, cost: Cost) -> dict[str, tuple[float, float]]:
    """Algorithm -> mean cost and mean accuracy; those whose cost is not known in every run are not among them."""
    found = {}
    for algorithm in study.algorithms:
        runs = study.runs(condition, algorithm)
        amounts = [value for run in runs if (value := cost(run.costs)) is not None]
        if runs and len(amounts) == len(runs):
            found[algorithm] = float(np.mean(amounts)), float(np.mean([study.accuracy(run) for run in runs]))
    return found


def _join(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A line through the front, in steps: between two of its points there is nothing better than the cheaper one."""
    if len(points) > 1:
        x, y = zip(*points, strict=True)
        ax.step(x, y, where="post", color=MUTED, lw=1.2, ls=FRONT_LINE, zorder=1)


def _words(rows: list[list[object]], kind: str) -> str:
    shares = [
        f"{r[1]} {float(str(r[5])):.0f} %" for r in rows if r[2] != kind and r[5] is not None and r[0] == rows[0][0]
    ]
    return f"Shares of the baseline's: {', '.join(shares)}." if shares else ""
