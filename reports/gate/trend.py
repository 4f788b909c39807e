"""The trend of a gate: every metric of every configuration over the runs of the history, as a page or a picture."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from autoflip_secure.errors import InputError
from autoflip_secure.reports.figures.style import INK, MUTED, Picture, drawing, finish, panels
from autoflip_secure.reports.gate.decision import Decision
from autoflip_secure.reports.gate.history import Moment, Point
from autoflip_secure.reports.gate.metrics import METRICS
from autoflip_secure.reports.gate.output import change_text, margin_text, value_text
from autoflip_secure.reports.pages.page import page
from autoflip_secure.reports.pages.writing import write
from autoflip_secure.reports.study.labels import clean_text, shorten, told_apart
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.terminal.counting import count_of

SUFFIXES = (".html", ".svg", ".png")
MOST_RUNS = 60  # drawn; the newest
_COLUMNS = 2
_LINES = 8  # configurations of one panel
_PANELS = 24
_TICKS = 12
_TITLE = "Metrics over the runs of the gate"
_CAPTION = "One panel a metric, one line a configuration. Dot: pass; cross: regression; circle: cannot tell."
_DRAWN = "Points are means over seeds; the dashed line is the baseline that each run was compared with."
_MARKERS = {Decision.PASS.value: "o", Decision.CANNOT_TELL.value: "o", Decision.REGRESSION.value: "X"}


def check_trend(path: Path) -> None:
    """The file can be a trend.

    Raises:
        InputError: it has another ending.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"--trend {path}: should end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


@one_thread()
def write_trend(history: Sequence[Moment], path: Path) -> None:
    """Draw the history into ``path``: a page, or the figure alone.

    Raises:
        StoreError: it cannot be written.
    """
    if path.suffix == ".html":
        write(path, trend_page(history))
        return
    with drawing():
        figure, _ = _figure(history)
        figure.set_facecolor("white")
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format=path.suffix[1:], dpi=192, metadata={"Date": None} if path.suffix == ".svg" else {}
        )
    write(path, buffer.getvalue())


def trend_page(history: Sequence[Moment]) -> str:
    """The page as text."""
    last = history[-1]
    picture, names = _picture(history), _names(history)
    return page(
        "trend.html.j2",
        name=f"of {count_of(len(history), 'run')}",
        headline=f"Last run: {last.decision}",
        summary=_summary(history),
        picture=picture,
        rows=[_row(point, names(point)) for point in last.metrics],
        runs=[
            {"run": clean_text(one.label), "time": clean_text(one.time), "verdict": clean_text(one.decision)}
            for one in history[::-1]
        ],
    )


def _summary(history: Sequence[Moment]) -> str:
    counts = {word: sum(one.decision == word for one in history) for word in _MARKERS}
    told = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    last = history[-1]
    which = f"The last one, {clean_text(last.label)}, was compared with the baseline of {clean_text(last.baseline)}."
    return f"{count_of(len(history), 'run')}: {told}. {which} {_DRAWN}"


def _row(point: Point, name: str) -> dict[str, str]:
    metric = METRICS.get(point.metric)
    columns, numbers = ("baseline", "last run", "change", "margin"), ["–"] * 4  # of a metric of a newer version
    if metric is not None:
        change = "–" if point.change is None else change_text(metric, point.change)
        own = (value_text(metric, one) for one in (point.baseline, point.value))
        numbers = [*own, change, margin_text(metric, point.margin)]
    return {
        "configuration": name,
        "metric": metric.title if metric is not None else clean_text(point.metric),
        **dict(zip(columns, numbers, strict=True)),
        "decision": f"{point.decision}{' (advisory)' if point.advisory else ''}",
    }


def _label(point: Point) -> str:
    return clean_text(f"{point.algorithm} · {point.condition}")


def _names(history: Sequence[Moment]) -> Callable[[Point], str]:
    """What a line is called: its label, and where one run has that label twice, the beginning of its key too.

    A configuration that was changed on purpose has another key and goes on as the same line.
    """
    counts = (Counter((p.metric, _label(p)) for p in one.metrics) for one in history)
    several = {label for count in counts for (_, label), number in count.items() if number > 1}
    return lambda point: f"{label} ({point.key[:8]})" if (label := _label(point)) in several else label


def _picture(history: Sequence[Moment]) -> Picture:
    with drawing():
        figure, notes = _figure(history)
        alt = f"{_TITLE}, {count_of(len(history), 'run')}"
        return finish(figure, "trend", _TITLE, _CAPTION, alt, _table(history), notes)


def _table(history: Sequence[Moment]) -> Table:
    header, names = ["run", "time", "configuration", "metric", "value", "baseline", "decision"], _names(history)
    rows = [
        [clean_text(one.label), clean_text(one.time), names(p), p.metric, p.value, p.baseline, p.decision]
        for one in history
        for p in one.metrics
    ]
    return Table(header, rows)


def _figure(history: Sequence[Moment]) -> tuple[Figure, list[str]]:
    shown = history[-MOST_RUNS:]
    by_metric = _lines(shown, _names(history))
    notes = [f"The last {MOST_RUNS} of {len(history)} runs are drawn."] if len(history) > MOST_RUNS else []
    absent = sum(point.value is None for one in shown for point in one.metrics)
    if absent:
        values = "value was not measured, or is" if absent == 1 else "values were not measured, or are"
        notes.append(f"{absent} {values} no guarantee: they have no point, and the table says what was decided.")
    chunks = [
        (name, dict(list(lines.items())[start : start + _LINES]))
        for name, lines in by_metric.items()
        for start in range(0, len(lines), _LINES)
    ]
    if len(chunks) > _PANELS:
        notes.append(f"{_PANELS} of {len(chunks)} panels are drawn; the trend file has everything.")
        chunks = chunks[:_PANELS]
    names = list(dict.fromkeys(name for _, lines in chunks for name in lines))
    palette = sns.color_palette("colorblind", max(1, len(names))).as_hex()
    colours = dict(zip(names, palette, strict=False))
    rows = max(1, -(-len(chunks) // _COLUMNS))
    figure, axes = panels(rows, _COLUMNS, height=2.1, share_y=False)
    for ax, (metric, lines) in zip(axes.flat, chunks, strict=False):
        _draw(ax, metric, lines, colours)
    for ax in list(axes.flat)[len(chunks) :]:
        ax.set_visible(False)
    step = -(-len(shown) // _TICKS)
    for ax in axes[-1]:
        ax.set_xticks(range(0, len(shown), step), [shorten(clean_text(one.label), 9) for one in shown][::step])
        ax.set_xlabel("run")
    _legend(figure, colours)
    return figure, notes


def _lines(history: Sequence[Moment], names: Callable[[Point], str]) -> dict[str, dict[str, list[tuple[int, Point]]]]:
    """Metric -> configuration -> (place of the run, point), metrics in the gate's order, those that decide first."""
    found: dict[str, dict[str, list[tuple[int, Point]]]] = {}
    for place, one in enumerate(history):
        for point in one.metrics:
            if point.value is not None:
                found.setdefault(point.metric, {}).setdefault(names(point), []).append((place, point))
    advisory = {p.metric for p in history[-1].metrics if p.advisory} if history else set()
    order = {name: number for number, name in enumerate(METRICS)}
    return dict(sorted(found.items(), key=lambda item: (item[0] in advisory, order.get(item[0], len(order)))))


def _draw(ax: Axes, name: str, lines: Mapping[str, Sequence[tuple[int, Point]]], colours: Mapping[str, Any]) -> None:
    metric = METRICS.get(name)
    for label, points in lines.items():
        colour = colours[label]
        ax.plot(*_places((x, p.value) for x, p in points), color=colour, lw=1.4)
        ax.plot(*_places((x, p.baseline) for x, p in points), color=colour, lw=0.9, ls=(0, (4, 2)), alpha=0.7)
        for word, marker in _MARKERS.items():
            own = _places((x, p.value) for x, p in points if p.decision == word)
            face = "none" if word == Decision.CANNOT_TELL.value else colour
            ax.scatter(*own, marker=marker, s=24 if marker == "o" else 42, facecolors=face, edgecolors=colour, zorder=3)
    advisory = any(p.advisory for points in lines.values() for _, p in points[-1:])
    title = name if metric is None else metric.title
    ax.set_title(f"{title}{' (advisory)' if advisory else ''}")
    ax.margins(y=0.15)
    if not any(len(points) > 1 for points in lines.values()):
        ax.set_xlim(-0.5, 0.5)


def _places(points: Iterable[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    """Those that have a value, apart by coordinate."""
    there = [(x, y) for x, y in points if y is not None]
    return [x for x, _ in there], [y for _, y in there]


def _legend(figure: Figure, colours: Mapping[str, Any]) -> None:
    names = told_apart(colours, 60)
    handles = [Line2D([], [], color=colour, lw=1.8, label=names[name]) for name, colour in colours.items()]
    for word, marker in _MARKERS.items():
        fill: Literal["none", "full"] = "none" if word == Decision.CANNOT_TELL.value else "full"
        handles.append(Line2D([], [], color=MUTED, marker=marker, fillstyle=fill, lw=0, markersize=5.5, label=word))
    handles.append(Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 2)), label="baseline"))
    figure.set_figheight(figure.get_figheight() + 0.19 * ((len(handles) - 1) // _COLUMNS))
    figure.legend(handles=handles, loc="outside upper left", ncols=_COLUMNS, columnspacing=1.6, handlelength=1.9)
