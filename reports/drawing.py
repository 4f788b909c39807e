"""Strokes that several figures share: curves with interval bars, and the words around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes

from reports.statistics import Interval
from reports.style import Palette

COLUMNS, ROWS = 4, 3  # panels of one figure at most
LINES = 10  # algorithms in one panel of curves at most


def draw_curve(
    ax: Axes, palette: Palette, algorithm: str, points: Sequence[tuple[float, Interval]], label: str = ""
) -> None:
    """A line through the means, with interval bars, on ``ax``."""
    if not points:
        return
    x, y = [p[0] for p in points], [p[1].mean for p in points]
    look = label or algorithm
    sns.lineplot(
        x=x,
        y=y,
        ax=ax,
        color=palette.colours[look],
        marker=palette.markers[look],
        markersize=5.5,
        markeredgewidth=0,
        linewidth=palette.widths.get(look, 1.6),
        errorbar=None,
    )
    bars(ax, x, [p[1] for p in points], palette.colours[look], vertical=True)


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
