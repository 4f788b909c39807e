"""Two sweeps in pictures: the paired change of every condition, and every cell of the one against its counterpart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.comparison.changes import Change
from autoflip_secure.reports.figures.conditions import forest, limits_of
from autoflip_secure.reports.figures.drawing import COLUMNS, fitting, left_out
from autoflip_secure.reports.figures.marks import belonging
from autoflip_secure.reports.figures.style import RULE, Palette, Picture, finish, panels, percent
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table, percents


def changes(study: Study, palette: Palette, rows: Sequence[Change]) -> Picture:
    """The paired change of accuracy, A minus B, with its interval."""
    facets = list(study.facets)[:COLUMNS]
    shown = [r for r in rows if r.condition.facet in facets]
    own = {(r.condition.facet, r.condition.attack, r.algorithm): r.accuracy.difference for r in shown}
    attacks = [a for a in study.attacks if any(r.condition.attack == a for r in shown)]
    names = [a for a in study.algorithms if any(r.algorithm == a for r in shown)]
    limits, cut = limits_of(list(own.values()), True)
    label = "points of accuracy, A minus B"
    hollow = {(*r.condition, r.algorithm) for r in shown if not r.accuracy.settled}
    figure = forest(palette, facets, attacks, names, own, limits=limits, label=label, difference=True, hollow=hollow)
    caption = (
        "Accuracy in A minus accuracy in B at the same seed: mean and 95 % interval. Right of the line A is better. "
        "A filled mark is better, worse or equal after correction for all rows of the table; a hollow one is not "
        "settled, wherever its bar, which is not corrected, lies." + cut
    )
    table = Table(
        ["facet", "attack", "algorithm", "change (points)", "low", "high", "pairs"],
        [[*key, *percents(i), i.n] for key, i in own.items()],
    )
    alt = f"Forest plot of the change in accuracy from B to A: {len(own)} comparisons, each with its 95 % interval."
    notes = left_out(len(study.facets), len(facets), "settings")
    return finish(figure, "accuracy-changes", "Change in accuracy", caption, alt, table, notes)


def cell_by_cell(study: Study, palette: Palette, partner: Mapping[str, RunRecord]) -> Picture:
    """Every pair of cells as a point: accuracy in B across, accuracy in A upwards."""
    facets = list(study.facets)[:COLUMNS]
    figure, axes = panels(1, len(facets), height=3.2, wide=len(facets) > 2)
    rows: list[list[object]] = []
    for row, mine in study.rows:
        both = (study.accuracy(mine), study.accuracy(partner[mine.cell]))
        rows.append([row.facet, row.attack, row.algorithm, row.seed, *both])
    accuracies = [float(str(v)) for r in rows for v in r[4:]]
    pad = 0.03 * (max(accuracies) - min(accuracies)) + 0.005
    limits = min(accuracies) - pad, max(accuracies) + pad
    for ax, facet in zip(axes[0], facets, strict=True):
        ax.plot(limits, limits, color=RULE, lw=1.2, zorder=1)
        for name in study.algorithms:
            own = [(float(str(r[5])), float(str(r[4]))) for r in rows if r[0] == facet and r[2] == name]
            if own:
                x, y = zip(*own, strict=True)
                look = {"color": palette.colours[name], "marker": palette.markers[name]}
                with belonging(ax, name):
                    ax.scatter(x, y, s=22, alpha=0.75, linewidths=0, zorder=2, **look)
        ax.set_xlim(*limits)
        ax.set_ylim(*limits)
        percent(ax)
        percent(ax, "x")
        ax.set_title(fitting(facet, axes.shape[1]))
        ax.set_xlabel("accuracy in B")
    axes[0, 0].set_ylabel("accuracy in A")
    palette.legend(figure, [a for a in study.algorithms if any(r[2] == a for r in rows)], line=False)
    caption = "Every cell that both sweeps have: above the line A is better, on it nothing changed."
    table = Table(["facet", "attack", "algorithm", "seed", "accuracy A", "accuracy B"], rows)
    higher = sum(float(str(r[4])) > float(str(r[5])) for r in rows)
    alt = f"Scatter plot of accuracy in A against accuracy in B: {higher} of {len(rows)} cells are higher in A."
    notes = left_out(len(study.facets), len(facets), "settings")
    return finish(figure, "cell-by-cell", "Cell by cell", caption, alt, table, notes)
