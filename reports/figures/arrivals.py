"""What it takes to get nearly as far as the baseline (Fig. 7): rounds, megabytes and operations, each with interval."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from autoflip_secure.reports.figures.drawing import ON_DEMAND, bars, fitting, left_out, spoken_for, spokesmen
from autoflip_secure.reports.figures.marks import belonging, series
from autoflip_secure.reports.figures.style import Palette, Picture, finish, panels
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.labels import NO_ATTACK, told_apart
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.study.to_target import (
    COMPACTED,
    ROUNDS,
    SHARE,
    UNITS,
    VALUES,
    Arrival,
    Spent,
    arrivals,
    spent,
)
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.terminal.counting import count_of

COLUMNS = 3
_DRAWN = {ROUNDS: "rounds", VALUES: "MB, live values", COMPACTED: "10⁹ operations, compacted"}
_TABLE = [
    "facet", "algorithm", "amount", "unit", "mean", "low", "high",
    "share of the baseline (%)", "share, low (%)", "share, high (%)", "runs that got there", "runs",
]  # fmt: skip
Ways = dict[str, dict[int, Arrival]]  # algorithm -> seed


def to_target(study: Study, palette: Palette) -> Picture | None:
    """A row of panels for rounds, bytes and operations, a column for every facet; None: nothing to hold them against.

    Only runs without attack. The table has every algorithm, and bytes and operations by every count.
    """
    clean = [c for c in (Condition(f, NO_ATTACK) for f in study.facets) if c in study.conditions]
    ways = {c.facet: own for c in clean if len(own := arrivals(study, c)) > 1}
    if not ways:
        return None
    facets, rows = list(ways)[:COLUMNS], _rows(study, ways)
    names = [a for a in study.algorithms if any(a in ways[f] for f in facets)]
    many = len(names) > ON_DEMAND
    names = [a for a in names if a in spokesmen(study)] if many else names
    drawn = [kind for kind in _DRAWN if any(_spent(study, ways[f], a, kind) for f in facets for a in names)]
    figure, axes = panels(len(drawn), len(facets), height=0.5 + 0.19 * len(names), share_x=False, share_y=True)
    for i, kind in enumerate(drawn):
        for ax, facet in zip(axes[i], facets, strict=True):
            for place, name in enumerate(names):
                if (found := _spent(study, ways[facet], name, kind)) is not None:
                    _point(ax, palette, name, found, place, UNITS[kind])
            ax.set_yticks(range(len(names)), told_apart(names).values())
            ax.set_ylim(len(names) - 0.4, -0.6)
            ax.set_xlim(left=0)
            ax.grid(visible=False, axis="y")
            ax.grid(axis="x")
            ax.tick_params(axis="y", length=0)
            ax.set_xlabel(_DRAWN[kind])
            if i == 0:
                ax.set_title(fitting(facet, len(facets)))
    caption = (
        f"Until the test accuracy reaches {100 * SHARE:.0f} % of what {study.baseline} ends with at the same seed, "
        "without attack: rounds, bytes of all clients in both directions, and operations of their training, all that "
        "comes before round 1 included. Mean and 95 % t interval over seeds. A hollow mark is a lower bound: some run "
        "never got there, and counts as long as it ran. Rounds are known to one step of evaluation. The table has "
        f"bytes with the mask, the other counts of operations, and ratios to {study.baseline}'s at the same seed, "
        "whose intervals are not corrected for how many there are."
    )
    alt = f"Dot plots of what it takes to reach the goal: {count_of(len(names), 'algorithm')}. {_words(rows)}"
    notes = left_out(len(ways), len(facets), "settings") + (spoken_for(study) if many else [])
    title = f"What it takes to reach {100 * SHARE:.0f} % of {study.baseline}'s accuracy"
    return finish(figure, "cost-to-target", title, caption, alt, Table(_TABLE, rows), notes)


def _spent(study: Study, ways: Ways, name: str, amount: str) -> Spent | None:
    base = study.baseline or ""
    return spent(ways[name], None if name == base else ways.get(base), amount) if name in ways else None


def _point(ax: Axes, palette: Palette, name: str, found: Spent, place: int, unit: str) -> None:
    colour, value, bound = palette.colours[name], found.mean, found.arrived < found.runs
    with belonging(ax, name):
        bars(ax, [place], [value], colour, vertical=False)
    (point,) = ax.plot(
        [value.mean], [place], marker=palette.markers[name], ms=5, color=colour, lw=0, zorder=3,
        mfc="none" if bound else colour, mew=1.2 if bound else 0,
    )  # fmt: skip
    series(point, name, [_said(name, found, unit)])


def _said(name: str, found: Spent, unit: str) -> str:
    value = found.mean
    ends = "" if value.low is None or value.high is None else f" [{value.low:.3g}, {value.high:.3g}]"
    never = f", {found.runs - found.arrived} of {found.runs} runs never got there" if found.arrived < found.runs else ""
    return f"{name}: {'at least ' if never else ''}{value.mean:.3g}{ends} {unit}{never}"


def _rows(study: Study, ways: dict[str, Ways]) -> list[list[object]]:
    rows: list[list[object]] = []
    for facet, own in ways.items():
        for name in own:
            for amount, unit in UNITS.items():
                if (found := _spent(study, own, name, amount)) is not None:
                    ratio = [None] * 3 if found.ratio is None else [100 * x if x else x for x in _ends(found.ratio)]
                    runs = [found.arrived, found.runs]
                    rows.append([facet, name, amount, unit, *_ends(found.mean), *ratio, *runs])
    return rows


def _ends(interval: Interval) -> list[float | None]:
    return [interval.mean, interval.low, interval.high]


def _words(rows: Sequence[Sequence[object]]) -> str:
    """Of the first facet, in rounds."""
    first = [row for row in rows if row[0] == rows[0][0] and row[2] == ROUNDS]
    told = [f"{row[1]} {'at least ' if row[10] != row[11] else ''}{float(str(row[4])):.3g}" for row in first]
    return f"Rounds, {rows[0][0]}: {', '.join(told)}."
