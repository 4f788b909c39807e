"""What masks have in common: between seeds, and with the mask of more explorers, beside chance."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from autoflip_secure.reports.figures.drawing import ON_DEMAND, bars, fitting, left_out, spoken_for, spokesmen
from autoflip_secure.reports.figures.marks import belonging, series
from autoflip_secure.reports.figures.style import MUTED, Palette, Picture, finish, panels, percent
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.labels import told_apart
from autoflip_secure.reports.study.mask_overlaps import SEEDS, Overlap, most_explorers, overlaps
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.terminal.counting import count_of

COLUMNS = 3
_ROWS = {"seeds": "between two seeds", "explorers": "with the mask of most explorers"}
_TABLE = [
    "between", "facet", "algorithm", "compared with", "overlap", "low", "high", "lowest", "highest", "by chance",
    "pairs",
]  # fmt: skip


def mask_overlap(study: Study, palette: Palette) -> Picture | None:
    """Where stability was measured, or numbers of explorers were compared; None: nowhere, or nothing is pruned."""
    measured = any(record.config.get("measures") for record in study.records)
    if not (measured or any(most_explorers(study, a) for a in study.algorithms)):
        return None
    found = overlaps(study)
    kinds = [kind for kind in _ROWS if any(one.between == kind for one in found)]
    if not kinds:
        return None
    every = [f for f in study.facets if any(one.facet == f for one in found)]
    names = [a for a in study.algorithms if any(one.algorithm == a for one in found)]
    many = len(names) > ON_DEMAND
    names = [a for a in names if a in spokesmen(study)] if many else names
    facets = every[:COLUMNS]
    figure, axes = panels(len(kinds), len(facets), height=0.6 + 0.19 * len(names), share_y=True)
    for i, kind in enumerate(kinds):
        for ax, facet in zip(axes[i], facets, strict=True):
            for place, name in enumerate(names):
                for one in found:
                    if (one.between, one.facet, one.algorithm) == (kind, facet, name):
                        _point(ax, palette, one, place)
            ax.set_yticks(range(len(names)), told_apart(names).values())
            ax.set_ylim(len(names) - 0.4, -0.6)
            ax.set_xlim(0, 1)
            ax.grid(visible=False, axis="y")
            ax.grid(axis="x")
            ax.tick_params(axis="y", length=0)
            percent(ax, "x")
            ax.set_xlabel(f"overlap {_ROWS[kind]}")
            if i == 0:
                ax.set_title(fitting(facet, len(facets)))
    mark = Line2D([], [], color=MUTED, marker="|", lw=0, ms=9, mew=1.4, label="as many at random places in each tensor")
    figure.legend(handles=[mark], loc="outside upper left")
    caption = (
        "Jaccard index of the prunable weights that two runs leave alive at the end, without attack. Between seeds: "
        f"mean over all pairs of up to {SEEDS} of them, and a bar from the lowest to the highest; seeds differ in "
        "initial weights, data of clients and cohorts. With the mask of most explorers: mean and 95 % t interval over "
        "seeds, all else being equal. The tick is what masks with as many weights in each tensor at random places "
        "would have."
    )
    first = [one for one in found if one.facet == facets[0]]
    words = [f"{one.algorithm} {_ROWS[one.between]} {one.value.mean:.2f}, by chance {one.chance:.2f}" for one in first]
    notes = left_out(len(every), len(facets), "settings") + (spoken_for(study) if many else [])
    alt = f"Dot plots of the overlap of masks: {count_of(len(names), 'algorithm')}. {facets[0]}: {'; '.join(words)}."
    rows: list[list[object]] = [
        [
            one.between, one.facet, one.algorithm, one.other, one.value.mean, one.value.low, one.value.high,
            one.lowest, one.highest, one.chance, one.pairs,
        ]
        for one in found
    ]  # fmt: skip
    return finish(figure, "mask-overlap", "What masks have in common", caption, alt, Table(_TABLE, rows), notes)


def _point(ax: Axes, palette: Palette, one: Overlap, place: int) -> None:
    colour = palette.colours[one.algorithm]
    spread = Interval(one.value.mean, one.lowest, one.highest, one.pairs) if one.between == "seeds" else one.value
    with belonging(ax, one.algorithm):
        bars(ax, [place], [spread], colour, vertical=False)
        ax.plot([one.chance], [place], marker="|", color=MUTED, ms=9, mew=1.4, lw=0, zorder=2)
    (point,) = ax.plot(
        [one.value.mean], [place], marker=palette.markers[one.algorithm], ms=5, color=colour, mew=0, lw=0, zorder=3
    )
    said = f"{one.algorithm}: {100 * one.value.mean:.0f} %, {100 * one.chance:.0f} % by chance"
    series(point, one.algorithm, [f"{said}; {count_of(one.pairs, 'pair')} of runs"])
