"""How figures look: one colour and marker per algorithm everywhere, and SVG that takes its ink from the page.

Figures are made without pyplot's global state. Text, axes and grids are drawn in marker colours that become CSS
variables, so that one file is legible in a light and in a dark page, and in print. Fonts are the page's.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from autoflip_secure.reports.figures.marks import adopt, naming
from autoflip_secure.reports.study.labels import pretty, told_apart
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table

WIDTH = 10.0  # inches; 96 CSS pixels each
BROAD = 640  # CSS pixels from which a figure is scrolled on a narrow screen rather than made smaller
SVG_LIMIT = 220_000  # characters; above, a picture at twice the resolution is smaller and quicker
_TITLE_LINE = 0.17  # inches
_FEW_DECADES = 1.2  # on a logarithmic axis: the powers of ten alone would be a name or none
INK, MUTED, RULE = "#1b1f23", "#5b6470", "#d5dae0"  # become var(--ink), var(--muted), var(--rule)
BLUE = "#0173b2"  # too dark for a dark page, so the page has a say
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", BLUE: "var(--blue)"}
_KNOWN = {  # seaborn's "colorblind" palette, assigned once and for all
    "fedavg": ("#7d848d", "o"),
    "autoflip": (BLUE, "s"),
    "autoflip_plus": ("#d55e00", "D"),
    "agreement_only": ("#029e73", "^"),
    "guidance_only": ("#cc78bc", "v"),
    "random_weights": ("#ca9161", "P"),
    "random_units": ("#de8f05", "X"),
}
_OTHERS = ("#56b4e9", "#9a8f00", "#e377b0", "#7b5ea7", "#2f9e9e", "#a14a3b", "#5a8f29", "#4a6fe3")
_OTHER_MARKERS = ("<", ">", "p", "h", "*", "d", "8", "H")


@dataclass(frozen=True)
class Picture:
    """A finished figure. ``markup`` is safe HTML: an inline SVG or an ``<img>`` with its data inside."""

    slug: str
    title: str
    caption: str
    alt: str
    markup: str
    vector: bool
    table: Table
    notes: list[str] = field(default_factory=list)  # what was left out of the drawing, and where to find it


@contextmanager
def drawing() -> Iterator[None]:
    """Seaborn's style inside, everything as before outside. Unknown glyphs and odd labels are no reason to fail."""
    settings = {
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",
        "font.size": 9.0,
        "axes.labelsize": 9.0,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.linewidth": 0.8,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": MUTED,
        "axes.titlecolor": INK,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.major.size": 3.0,
        "ytick.major.size": 3.0,
        "grid.color": RULE,
        "grid.linewidth": 0.7,
        "legend.fontsize": 9.0,
        "legend.frameon": False,
        "lines.solid_capstyle": "round",
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
    }
    with warnings.catch_warnings(), mpl.rc_context(settings):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def panels(
    rows: int,
    columns: int,
    *,
    height: float,
    share_x: bool = True,
    share_y: bool | Literal["row"] = True,
    wide: bool = True,
) -> tuple[Figure, np.ndarray]:
    """A figure of the page's width (narrower for one or two panels unless ``wide``) and its axes, (rows, columns)."""
    width = WIDTH if wide or columns > 2 else 4.2 * columns + 0.8
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.06)
    figure = Figure(figsize=(width, rows * height + 0.45), layout=layout)
    axes = figure.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False)
    for ax in axes.flat:
        sns.despine(ax=ax)
        ax.grid(axis="y")
        ax.set_axisbelow(True)
    return figure, axes


class Palette:
    """Colour, marker and line width of every algorithm of a study."""

    def __init__(self, study: Study) -> None:
        spare = ((_OTHERS[i % 8], _OTHER_MARKERS[(i + i // 8) % 8]) for i in count())
        families = dict.fromkeys(study.families.values())
        looks = {family: _KNOWN.get(family) or next(spare) for family in families}
        self.colours: dict[str, Any] = {}
        self.markers: dict[str, str] = {}
        for family, (colour, marker) in looks.items():
            labels = [a for a in study.algorithms if study.families[a] == family]
            ramp = [colour]
            if len(labels) > 1:  # settings of one algorithm: from a lighter to a darker shade of its colour
                light, dark = sns.light_palette(colour, 5)[2], sns.dark_palette(colour, 5)[3]
                ramp = sns.blend_palette([light, colour, dark], len(labels)).as_hex()
            for label, shade in zip(labels, ramp, strict=True):
                self.colours[label], self.markers[label] = shade, marker
            self.colours.setdefault(pretty(family), colour)  # for lines over the settings of a family
            self.markers.setdefault(pretty(family), marker)
        self.widths = {
            a: 2.0 if study.families[a] in ("fedavg", "autoflip", "autoflip_plus") else 1.4 for a in study.algorithms
        }

    def legend(
        self,
        figure: Figure,
        algorithms: Sequence[str],
        *,
        line: bool = True,
        colour: bool = False,
        dashed: Sequence[str] = (),
        more: Sequence[Line2D] = (),
    ) -> None:
        """One legend above all panels, row by row: the algorithms (as bars of ``colour`` where marks mean something
        else, without a mark where they are drawn ``dashed``), then ``more`` handles that tell marks apart."""
        short, handles = told_apart(algorithms), []
        for name in algorithms:
            handle = Line2D([], [], color=self.colours[name], label=short[name], lw=5, solid_capstyle="butt")
            if name in dashed:
                handle.set(linewidth=1.6, linestyle=(0, (4, 2)))
            elif not colour:
                handle.set(marker=self.markers[name], markersize=5.5, linewidth=1.8 if line else 0)
            handles.append(handle)
        handles += more
        longest = max((len(str(h.get_label())) for h in handles), default=1)
        columns = max(1, min(len(handles), int(figure.get_figwidth() * 12.5 / (longest + 4))))
        figure.set_figheight(figure.get_figheight() + 0.19 * ((len(handles) - 1) // columns))  # panels keep their size
        handles = [handles[i] for column in range(columns) for i in range(column, len(handles), columns)]
        legend = figure.legend(
            handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.6, handlelength=1.9
        )
        known = {label: name for name, label in short.items()}
        for mark, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if mark is not None and (algorithm := known.get(text.get_text())):
                naming(mark, algorithm)
                naming(text, algorithm)


def percent(ax: Axes, axis: str = "y", *, signed: bool = False) -> None:
    """Ticks of a share in [0, 1] as per cent, none outside (of a difference: as points, with a sign)."""
    target = ax.yaxis if axis == "y" else ax.xaxis

    def text(value: float, _: object) -> str:
        value = round(100 * value, 6)
        if signed:
            return f"{value:+g}".replace("-", "−") if value else "0"
        return f"{value:g} %" if 0 <= value <= 100 else ""

    target.set_major_formatter(text)


def powers(ax: Axes) -> None:
    """Ticks of a logarithmic y axis as powers of ten, in plain text."""
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

    def text(value: float, _: object) -> str:
        exponent = math.floor(math.log10(value) + 1e-9)
        first = value / 10.0**exponent
        power = f"{value:g}" if exponent in (0, 1) else f"10{str(exponent).translate(raised)}"
        return power if exponent in (0, 1) or math.isclose(first, 1) else f"{first:.3g} · {power}"

    def between(value: float, place: object) -> str:
        """Where an axis has hardly a power of ten, its multiples are named too."""
        first = round(value / 10.0 ** math.floor(math.log10(value) + 1e-9))
        decades = math.log10(ax.get_ylim()[1] / ax.get_ylim()[0])
        named = decades < _FEW_DECADES and (first in (2, 5) or decades < _FEW_DECADES / 3)
        return text(value, place) if named else ""

    ax.yaxis.set_major_locator(LogLocator(numticks=6))
    ax.yaxis.set_major_formatter(text)
    ax.yaxis.set_minor_locator(LogLocator(subs=range(2, 10)))
    ax.yaxis.set_minor_formatter(between)
    ax.tick_params(axis="y", which="minor", length=0)


def finish(
    figure: Figure, slug: str, title: str, caption: str, alt: str, table: Table, notes: Sequence[str] = ()
) -> Picture:
    """Render ``figure`` for the page: inline SVG when small, else a PNG at twice the resolution."""
    _room_for_titles(figure)
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
        buffer,
        metadata={"Date": None},  # savefig would draw everything twice
    )
    markup = inline_svg(buffer.getvalue(), slug, alt)
    vector = len(markup) <= SVG_LIMIT
    if not vector:
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", dpi=192)
        data = base64.b64encode(pixels.getvalue()).decode()
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        kind = "broad" if width >= BROAD else ""
        look = f'class="{kind}" style="--height: {height}px"'
        source = f"data:image/png;base64,{data}"
        markup = f'<img {look} src="{source}" width="{width}" height="{height}" alt="{html.escape(alt)}">'
    return Picture(slug, title, caption, alt, markup, vector, table, list(notes))


def _room_for_titles(figure: Figure) -> None:
    """Titles of more than two lines make their row of panels higher, and leave the panels what they had."""
    lines = dict[int, int]()
    for ax in figure.axes:
        if (place := ax.get_subplotspec()) is not None:
            row = place.rowspan.start
            tall = max(ax.get_title(loc).count("\n") + 1 for loc in ("left", "center", "right"))
            lines[row] = max(lines.get(row, 0), tall)
    more = sum(max(0, count - 2) for count in lines.values())
    if more:
        figure.set_figheight(figure.get_figheight() + _TITLE_LINE * more)


def switched_off(picture: Picture, names: Sequence[str]) -> Picture:
    """``picture`` with the strokes of ``names`` hidden and their legend entries faded, until somebody switches them on.

    Without script they stay hidden; the table has them.
    """
    markup = picture.markup
    for name in names:
        for kind, look in (("series", "off"), ("entry", "faded")):
            mark = f'data-{kind}="{html.escape(name)}"'
            markup = markup.replace(f"<g {mark}>", f'<g {mark} class="{look}">')
    return replace(picture, markup=markup)


def again(picture: Picture, place: str) -> str:
    """The markup of a picture for a second place on the same page, where its ids must be others."""
    if not picture.vector:
        return picture.markup
    for start in ('id="', 'href="#', "url(#"):
        picture = replace(picture, markup=picture.markup.replace(f"{start}{picture.slug}-", f"{start}{place}-"))
    return picture.markup


def inline_svg(text: str, slug: str, alt: str) -> str:
    """A standalone SVG made fit to stand inside a page: own ids, the page's fonts and colours, an alternative text."""
    text = re.sub(
        r"<metadata>.*?</metadata>|<style\b.*?</style>|<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE[^>]*>",
        "",
        text,
        flags=re.DOTALL,
    )
    text = re.sub(r"<[a-zA-Z][^>]*>", lambda tag: _adopt(tag.group(), slug), adopt(text))
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width, height = (round(float(side) * 96 / 72) for side in box.groups()) if box else (960, 320)
    label = html.escape(alt)
    kind = "plot-svg broad" if width >= BROAD else "plot-svg"
    look = f'class="{kind}" style="--height: {height}px"'  # in print no figure is less than half its height
    opening = f'<svg {look} role="img" aria-label="{label}" width="{width}" height="{height}" viewBox='
    return re.sub(r"<svg\b[^>]*?viewBox=", lambda _: opening, text, count=1).strip()


def _adopt(tag: str, slug: str) -> str:
    tag = re.sub(r'\bid="', f'id="{slug}-', tag)
    tag = tag.replace("url(#", f"url(#{slug}-").replace('href="#', f'href="#{slug}-')
    tag = re.sub(r"font: (?:(bold|\d{3}) )?([\d.]+px) [^;\"]*", _font, tag)
    tag = re.sub(r"(\d+\.\d{3})\d+", r"\1", tag)  # a thousandth of a point is enough
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, variable)
    return tag


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}"
