"""Which strokes of a figure belong to which series: a page can switch them off and tell what stands at a point.

Artists carry a mark in their group id, which the SVG writer keeps; :func:`adopt` turns it into attributes and titles:

.. code-block:: text

    <g data-series="FedAvg">      strokes of a series        <title> in a <use>: what stands at that point
    <g data-entry="FedAvg">       its name in a legend, or beside its line
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from matplotlib.artist import Artist
from matplotlib.axes import Axes

_MARK = "mark "
_TAG = re.compile(r"<[^>]*>")
_MARKED = re.compile(rf"""<g id=(?:"{_MARK}([^"]*)"|'{_MARK}([^']*)')>""")


def series(artist: Artist, name: str, points: Sequence[str] = ()) -> None:
    """``artist`` is a stroke of ``name``; ``points``: what to say at each of its markers, in the order drawn."""
    artist.set_gid(_MARK + json.dumps({"series": name, "points": list(points)}, ensure_ascii=False))


def naming(artist: Artist, name: str) -> None:
    """``artist`` names a series."""
    artist.set_gid(_MARK + json.dumps({"entry": name}, ensure_ascii=False))


@contextmanager
def belonging(ax: Axes, name: str) -> Iterator[None]:
    """Everything that is drawn on ``ax`` inside, and is not marked yet, is a stroke of ``name``."""
    before = set(ax.get_children())
    yield
    for artist in ax.get_children():
        if artist not in before and artist.get_gid() is None:
            series(artist, name)


def adopt(svg: str) -> str:
    """``svg`` with every mark as attributes, and the texts of points as titles of their markers."""
    pieces, at = [], 0
    for found in _MARKED.finditer(svg):
        if found.start() < at:
            continue  # inside a mark that is dealt with
        mark = json.loads(html.unescape(found[1] or found[2]))
        kind = "series" if "series" in mark else "entry"
        end = _end(svg, found.end())
        inner = _MARKED.sub("<g>", svg[found.end() : end])
        pieces += [svg[at : found.start()], f'<g data-{kind}="{html.escape(mark[kind])}">']
        pieces.append(_titled(inner, mark.get("points") or []))
        at = end
    return "".join([*pieces, svg[at:]])


def _end(svg: str, start: int) -> int:
    """Where the group that was opened before ``start`` is closed."""
    depth = 1
    for tag in _TAG.finditer(svg, start):
        if tag[0].startswith("<g ") or tag[0] == "<g>":
            depth += not tag[0].endswith("/>")
        elif tag[0] == "</g>":
            depth -= 1
            if not depth:
                return tag.start()
    return len(svg)


def _titled(inner: str, points: Sequence[str]) -> str:
    """A title in every marker; in none where their number is not that of ``points`` (some lie outside)."""
    uses = re.findall(r"<use\b[^>]*/>", inner)
    if not points or len(uses) != len(points):
        return inner
    texts = iter(points)
    return re.sub(r"<use\b[^>]*/>", lambda use: f"{use[0][:-2]}><title>{html.escape(next(texts))}</title></use>", inner)
