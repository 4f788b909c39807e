"""Marks of figures: strokes and names of a series become attributes, points say what they are, ids stay unique."""

import re

from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from autoflip_secure.reports.figures.marks import belonging, naming, series
from autoflip_secure.reports.figures.style import again, drawing, finish
from autoflip_secure.reports.tables.text import Table

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=20)


def drawn(name: str, said: list[str]) -> str:
    with drawing():
        figure = Figure()
        ax = figure.subplots()
        (line,) = ax.plot(range(3), range(3), marker="o")
        series(line, name, said)
        with belonging(ax, name):
            ax.vlines([0, 1], [0, 0], [1, 1])
        naming(ax.text(0.5, 0.5, "legend"), name)
        return finish(figure, "slug", "title", "caption", "alt", Table([], [])).markup


def test_a_series_is_what_was_drawn_for_it_and_its_points_have_titles() -> None:
    markup = drawn("FedAvg", ["a", "b < c", "d"])
    assert markup.count('data-series="FedAvg"') == 2
    assert markup.count('data-entry="FedAvg"') == 1
    assert re.findall(r"<title>(.*?)</title>", markup) == ["a", "b &lt; c", "d"]
    assert "mark {" not in markup


def test_points_that_cannot_be_told_apart_say_nothing() -> None:
    assert "<title>" not in drawn("FedAvg", ["only one"])


@given(NAMES, st.lists(NAMES, min_size=3, max_size=3))
def test_no_name_breaks_the_markup(name: str, said: list[str]) -> None:
    markup = drawn(name, said)
    assert markup.count("data-series=") == 2
    assert markup.count("<g") == markup.count("</g>")
    assert len(re.findall("<title>", markup)) == 3
    assert "<script" not in markup.lower()


def test_a_picture_shown_twice_has_other_ids() -> None:
    with drawing():
        figure = Figure()
        figure.subplots().plot(range(3), range(3), marker="o")
        picture = finish(figure, "slug", "title", "caption", "alt", Table([], []))
    ids = re.findall(r'\bid="([^"]+)"', picture.markup + again(picture, "place"))
    assert len(ids) == len(set(ids)) > 4
    uses = re.findall(r'(?:href="#|url\(#)([^")]+)', again(picture, "place"))
    assert uses
    assert all(use in ids and use.startswith("place-") for use in uses)
