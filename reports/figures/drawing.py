"""Strokes that several figures share: curves with interval bars, and the words around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autoflip_secure.reports.figures.marks import belonging, naming, series
from autoflip_secure.reports.figures.style import Palette, Picture, switched_off
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.labels import in_lines, told_apart
from autoflip_secure.reports.study.study import Study
from autoflip_secure.terminal.counting import count_of

COLUMNS, ROWS = 4, 3  # panels of one figure at most
LINES = 8  # algorithms in one panel of curves at most
ON_DEMAND = 24  # where a legend switches curves on: these are in the picture, and all but LINES switched off at first
DIRECT = 7  # lines that are named at their ends; more get a legend
SEEDS_FOR_BARS = 3
APART = 0.4  # of a shared axis: settings that take less of it get their own
Line = list[tuple[float, list[float]]]  # (x, one value per seed)


def draw_curves(ax: Axes, palette: Palette, lines: Mapping[str, Line], *, share: bool = True) -> None:
    """A line through the means of every algorithm, the first one on top, with its interval bars or its seeds.

    Lines stand a little beside each other (:func:`dodge`). Fewer than ``SEEDS_FOR_BARS`` seeds are drawn one by one:
    their interval would fill the panel and say nothing.
    """
    shift = dodge(lines)
    order = [name for name, line in lines.items() if line][::-1]
    frame = pd.DataFrame(
        [
            (name, x + shift[name], np.mean(values), at_point(name, mean_interval(values, share=share), share=share))
            for name in order
            for x, values in lines[name]
        ]
    )
    if frame.empty:
        return
    frame.columns = pd.Index(["algorithm", "x", "mean", "said"])
    draw_lines(ax, palette, frame, order)
    for name in order:
        colour = palette.colours[name]
        many = [(x + shift[name], mean_interval(v, share=share)) for x, v in lines[name] if len(v) >= SEEDS_FOR_BARS]
        few = [(x + shift[name], v) for x, line in lines[name] if 1 < len(line) < SEEDS_FOR_BARS for v in line]
        with belonging(ax, name):
            bars(ax, [x for x, _ in many], [i for _, i in many], colour, vertical=True)
            if few:
                ax.scatter([x for x, _ in few], [v for _, v in few], s=9, color=colour, alpha=0.6, linewidths=0)


def dodge(lines: Mapping[str, Line]) -> dict[str, float]:
    """How far each line is moved sideways so that none hides another: at most a quarter of the smallest gap in all.

    >>> dodge({"a": [(0.0, [1.0]), (1.0, [1.0])], "b": [(0.0, [1.0])]})
    {'a': -0.007, 'b': 0.007}
    """
    names = [name for name, line in lines.items() if line]
    places = sorted({x for line in lines.values() for x, _ in line})
    if len(names) < 2 or len(places) < 2:
        return dict.fromkeys(names, 0.0)
    step = min(0.014 * (places[-1] - places[0]), 0.5 * min(np.diff(places)) / len(names))
    return {name: float((i - (len(names) - 1) / 2) * step) for i, name in enumerate(names)}


def direct_labels(ax: Axes, palette: Palette, ends: Mapping[str, tuple[float, float]]) -> None:
    """Names at the right of a panel, beside the ends (x, y) of their lines, spread so that none covers another.

    Call it when the limits of the axis are final.
    """
    to_axes = ax.transData + ax.transAxes.inverted()
    found = sorted((float(to_axes.transform(end)[1]), float(to_axes.transform(end)[0]), n) for n, end in ends.items())
    height, short = ax.get_window_extent().height / ax.figure.dpi, told_apart([n for *_, n in found], 30)  # inches
    for (y, x, name), place in zip(found, spread([y for y, _, _ in found], 0.165 / height), strict=True):
        colour, level = palette.colours[name], min(1.0, max(0.0, y))
        (lead,) = ax.plot(
            [x, 1.03, 1.055], [level, place, place], transform=ax.transAxes, color=colour, lw=1, clip_on=False
        )
        series(lead, name)
        naming(ax.text(1.07, place, short[name], transform=ax.transAxes, va="center", fontsize=8.5), name)


def label_ends(
    figure: Figure,
    palette: Palette,
    ends: Sequence[Mapping[str, tuple[float, float]]],
    last: Iterable[Axes],
    names: Sequence[str],
) -> None:
    """Tell the lines apart: by labels beside the last panel of every row where all ``names`` end in it, else by a
    legend above the figure."""
    if len(names) <= DIRECT and all(set(found) == set(names) for found in ends):
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.execute(figure)  # so that the places of the panels, and with them the limits, are final
        for ax, found in zip(last, ends, strict=True):
            direct_labels(ax, palette, found)
    else:
        palette.legend(figure, names)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """``places`` (ascending) moved as little as their order allows until neighbours are ``gap`` apart, about [0, 1].

    >>> [round(y, 2) for y in spread([0.5, 0.5, 0.9], 0.1)]
    [0.45, 0.55, 0.9]
    """
    groups: list[list[float]] = []  # clusters that touch: (their own places)
    for place in places:
        groups.append([min(1.0, max(0.0, place))])
        while len(groups) > 1 and _start(groups[-1], gap) < _start(groups[-2], gap) + len(groups[-2]) * gap:
            last = groups.pop()
            groups[-1] += last
    return [_start(group, gap) + i * gap for group in groups for i in range(len(group))]


def _start(group: Sequence[float], gap: float) -> float:
    return float(np.mean([place - i * gap for i, place in enumerate(group)]))


def draw_lines(ax: Axes, palette: Palette, frame: pd.DataFrame, order: Sequence[str], **options: Any) -> None:
    """Lines of ``frame`` (algorithm, x, mean, and what is said at a point), the last of ``order`` on top."""
    for name in order:
        line = frame[frame["algorithm"] == name].dropna(subset=["x", "mean"]).sort_values("x")
        (drawn,) = ax.plot(
            line["x"].to_numpy(),
            line["mean"].to_numpy(),
            color=palette.colours[name],
            marker=palette.markers[name],
            lw=palette.widths.get(name, 1.6),
            markersize=5.5,
            markeredgewidth=0,
            **options,
        )
        said = [*line["said"]] if "said" in line else []
        series(drawn, name, said[:: options.get("markevery") or 1])


def at_point(name: str, value: Interval, *, share: bool = True) -> str:
    """What a page says at a point: whose it is, its value with the interval, and of how many seeds.

    >>> at_point("FedAvg", mean_interval([0.5, 0.5, 0.8], share=True))
    'FedAvg: 60.0 % [17.0, 100.0], 3 seeds'
    """
    mean = f"{100 * value.mean:.1f} %" if share else f"{100 * value.mean:+.1f} points".replace("-", "−")
    ends = "" if value.low is None or value.high is None else f" [{100 * value.low:.1f}, {100 * value.high:.1f}]"
    return f"{name}: {mean}{ends.replace('-', '−')}, {count_of(value.n, 'seed')}"


def spoken_for(study: Study, drawn: Sequence[str] = ()) -> list[str]:
    """What to say where only the :func:`spokesmen` are drawn, or ``drawn`` with the others switched off."""
    total, shown = len(study.algorithms), len(spokesmen(study))
    if total == shown:
        return []
    first = " at first" if len(drawn) > shown else ""
    others = f"; the legend shows {len(drawn) - shown} more" if first else ""
    return [
        f"{shown} of {total} algorithms are drawn{first} (of several settings of one algorithm, the middle one)"
        f"{others}; all are in the statistics table and in results.csv."
    ]


def fit_shares(ax: Axes, values: Iterable[float], intervals: Iterable[Interval] = ()) -> str:
    """Limits of a share's y axis: all single seeds, and the bars as far as half that height again on both sides.

    Returns:
        What to say about bars that are longer; empty when there is none.
    """
    found = list(values)
    if not found:
        return ""
    low, high = min(found), max(found)
    room = max(0.02, 0.5 * (high - low))
    ends = [(i.low, i.high) for i in intervals if i.low is not None and i.high is not None and i.n >= SEEDS_FOR_BARS]
    bottom, top = min([low, *(a for a, _ in ends)]), max([high, *(b for _, b in ends)])
    bottom, top = max(0.0, bottom, low - room), min(1.0, top, high + room)
    bottom = max(0.0, min(bottom, top - 0.02))  # shares that are all alike
    pad = 0.04 * (top - bottom) + 0.004
    ax.set_ylim(bottom - pad, top + pad)
    cut = any(a < bottom - pad or b > top + pad for a, b in ends)
    return " Bars that reach the edge extend beyond it." if cut else ""


Group = tuple[Sequence[Axes], Sequence[Line]]  # panels of one setting, and what is drawn in them


def fit_groups(groups: Sequence[Group]) -> tuple[str, list[str]]:
    """One y axis for all panels; where some setting would have too small a part of it, an axis for every setting.

    Returns:
        What to say about bars that are cut, empty when there is none; and notes for the caption.
    """
    drawn = [(axes, lines) for axes, lines in groups if any(lines)]
    spans = [max(values) - min(values) for _, lines in drawn if (values := values_and_intervals(lines)[0])]
    joint = values_and_intervals([line for _, lines in drawn for line in lines])
    apart = len(spans) > 1 and min(spans) < APART * (max(joint[0]) - min(joint[0]))
    cut = ""
    for axes, lines in drawn:
        for ax in axes:
            cut = fit_shares(ax, *(values_and_intervals(lines) if apart else joint)) or cut
            place = ax.get_subplotspec()
            if not apart and place is not None and not place.is_first_col():
                ax.tick_params(labelleft=False)
    return cut, ["Every panel has its own accuracy axis."] if apart else []


def seeds_note(lines: Iterable[Line]) -> str:
    """What the bars or dots of a curve are, in words."""
    counts = {len(values) for line in lines for _, values in line}
    if counts and max(counts) < SEEDS_FOR_BARS:
        return "Lines: mean over seeds; small dots: single seeds, too few for a useful interval (the table has it)."
    return "Points: mean over seeds, shifted slightly sideways so that all are visible; bars: 95 % t intervals."


def spokesmen(study: Study) -> list[str]:
    """The algorithms to draw where there is no room for all: of several settings of one algorithm the middle one."""
    if len(study.algorithms) <= LINES:
        return study.algorithms
    variants: dict[str, list[str]] = {}
    for algorithm in study.algorithms:
        variants.setdefault(study.families[algorithm], []).append(algorithm)
    chosen = {found[(len(found) - 1) // 2] for found in variants.values()}
    return [a for a in study.algorithms if a in chosen][:LINES]


def on_demand(study: Study, draw: Callable[[list[str]], Picture | None]) -> Picture | None:
    """What ``draw`` makes of the :func:`spokesmen` with other algorithms behind them, which a legend switches on; of
    the spokesmen alone where that would be too much for a picture with switches."""
    first = spokesmen(study)
    names = [a for a in study.algorithms if a in first]
    names += [a for a in study.algorithms if a not in first][: max(0, ON_DEMAND - len(first))]
    picture = draw(names)
    if picture is None or len(names) == len(first):
        return picture
    return switched_off(picture, names[len(first) :]) if picture.vector else draw(first)


def bars(ax: Axes, at: Sequence[float], intervals: Sequence[Interval], colour: Any, *, vertical: bool) -> None:
    """The intervals that exist, as bars at ``at``."""
    shown = [(a, i.low, i.high) for a, i in zip(at, intervals, strict=True) if i.low is not None and i.high is not None]
    if shown:
        place, low, high = zip(*shown, strict=True)
        (ax.vlines if vertical else ax.hlines)(place, low, high, color=colour, lw=1.3, alpha=0.75)


def values_and_intervals(lines: Iterable[Line], *, share: bool = True) -> tuple[list[float], list[Interval]]:
    """Every single value, and the interval of every point; of a ``share``, the part that lies in [0, 1]."""
    points = [values for line in lines for _, values in line]
    return [v for values in points for v in values], [mean_interval(values, share=share) for values in points]


def fitting(text: str, columns: int) -> str:
    """``text`` as the title of a panel, on two or three lines where so many panels beside each other leave too
    little room.

    >>> fitting("2 classes per client · noise σ 0.5 on 20 %", 3)
    '2 classes per client ·\\nnoise σ 0.5 on 20 %'
    """
    width = {1: 70, 2: 50, 3: 32}.get(columns, 23)
    if len(text) <= width:
        return text
    for between in (" · ", ", "):
        parts = text.split(between)
        halves = [(between.join(parts[:k]) + between.rstrip(), between.join(parts[k:])) for k in range(1, len(parts))]
        if halves and max(map(len, best := min(halves, key=lambda two: max(map(len, two))))) <= width:
            return "\n".join(best)
    return in_lines(text, width)


def left_out(total: int, shown: int, what: str) -> list[str]:
    """A note for the reader when a figure does not show everything."""
    text = f"{shown} of {total} {what} are drawn; all are in the statistics table and in results.csv."
    return [text] if total > shown else []


def in_table(total: int, shown: int) -> list[str]:
    """The same of settings that only the table of the figure has."""
    return [f"{total - shown} settings more are in the table."] if total > shown else []


def slug(text: str) -> str:
    """``text`` as an identifier for links: ASCII letters, digits and dashes."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in text).strip("-").lower()
