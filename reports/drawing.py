"""Strokes that several figures share: curves with interval bars, and the words around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from reports.statistics import Interval, mean_interval
from reports.style import Palette

COLUMNS, ROWS = 4, 3  # panels of one figure at most
LINES = 10  # algorithms in one panel of curves at most
SEEDS_FOR_BARS = 3
Line = list[tuple[float, list[float]]]  # (x, one value per seed)


def draw_curves(ax: Axes, palette: Palette, lines: Mapping[str, Line]) -> None:
    """A line through the means of every algorithm, the first one on top, with its interval bars or its seeds.

    Fewer than ``SEEDS_FOR_BARS`` seeds are drawn one by one: their interval would fill the panel and say nothing.
    """
    order = [name for name, line in lines.items() if line][::-1]
    frame = pd.DataFrame([(name, x, np.mean(values)) for name in order for x, values in lines[name]])
    if frame.empty:
        return
    frame.columns = pd.Index(["algorithm", "x", "mean"])
    draw_lines(ax, palette, frame, order)
    for name in order:
        colour = palette.colours[name]
        many = [(x, mean_interval(v)) for x, v in lines[name] if len(v) >= SEEDS_FOR_BARS]
        bars(ax, [x for x, _ in many], [i for _, i in many], colour, vertical=True)
        few = [(x, v) for x, values in lines[name] if 1 < len(values) < SEEDS_FOR_BARS for v in values]
        if few:
            ax.scatter([x for x, _ in few], [v for _, v in few], s=9, color=colour, alpha=0.6, linewidths=0)


def draw_lines(ax: Axes, palette: Palette, frame: pd.DataFrame, order: Sequence[str], **options: Any) -> None:
    """Lines of ``frame`` (algorithm, x, mean), the last of ``order`` on top."""
    sns.lineplot(
        frame,
        x="x",
        y="mean",
        hue="algorithm",
        style="algorithm",
        size="algorithm",
        hue_order=order,
        style_order=order,
        size_order=order,
        palette=[palette.colours[name] for name in order],
        markers=[palette.markers[name] for name in order],
        sizes=[palette.widths.get(name, 1.6) for name in order],
        dashes=False,
        markersize=5.5,
        markeredgewidth=0,
        estimator=None,
        errorbar=None,
        legend=False,
        ax=ax,
        **options,
    )


def fit_shares(ax: Axes, values: Iterable[float]) -> None:
    """Limits of a share's y axis from the single seeds; bars that are longer leave the panel."""
    found = list(values)
    if found:
        pad = max(0.02, 0.07 * (max(found) - min(found)))
        ax.set_ylim(max(-0.01, min(found) - pad), min(1.01, max(found) + pad))


def seeds_note(lines: Iterable[Line]) -> str:
    """What the bars or dots of a curve are, in words."""
    counts = {len(values) for line in lines for _, values in line}
    if counts and max(counts) < SEEDS_FOR_BARS:
        return "Lines: mean over seeds; small dots: single seeds, too few for a useful interval (the table has it)."
    return "Points: mean over seeds; bars: 95 % t intervals."


def bars(ax: Axes, at: Sequence[float], intervals: Sequence[Interval], colour: Any, *, vertical: bool) -> None:
    """The intervals that exist, as bars at ``at``."""
    shown = [(a, i.low, i.high) for a, i in zip(at, intervals, strict=True) if i.low is not None and i.high is not None]
    if shown:
        place, low, high = zip(*shown, strict=True)
        (ax.vlines if vertical else ax.hlines)(place, low, high, color=colour, lw=1.3, alpha=0.75)


def is_number(value: object) -> bool:
    """Whether a setting can be an axis: a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def percents(interval: Interval) -> list[float | None]:
    """Mean, low and high of a share, in per cent; None where there is no interval."""
    return [None if v is None else 100 * v for v in (interval.mean, interval.low, interval.high)]


def left_out(total: int, shown: int, what: str) -> list[str]:
    """A note for the reader when a figure does not show everything."""
    text = f"{shown} of {total} {what} are drawn; all are in the statistics table and in results.csv."
    return [text] if total > shown else []


def slug(text: str) -> str:
    """``text`` as an identifier for links: ASCII letters, digits and dashes."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in text).strip("-").lower()
