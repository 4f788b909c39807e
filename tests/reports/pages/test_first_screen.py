"""What fits the first screen: a picture that can be read at its size."""

import pytest

from autoflip_secure.reports.figures.sections import Section
from autoflip_secure.reports.figures.style import Picture
from autoflip_secure.reports.pages.first_screen import answering, fitting_picture, small_enough
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.wording.verdict import Opening


@pytest.mark.parametrize(
    ("markup", "fits"),
    [
        ('<svg class="plot-svg" width="960" height="503" viewBox="0 0 720 377"></svg>', True),
        ('<svg class="plot-svg" width="500" height="500"></svg>', True),
        ('<svg class="plot-svg" style="--height: 566px" width="960" height="566"></svg>', False),
        ('<img class="broad" src="data:image/png;base64,aa" width="960" height="1964" alt="many rows">', False),
    ],
)
def test_a_picture_of_many_rows_is_linked_and_not_shown(markup: str, fits: bool) -> None:
    picture = Picture("x", "x", "x", "x", markup, markup.startswith("<svg"), Table((), []))
    assert small_enough(picture) is fits


def test_instead_of_a_picture_too_large_the_next_answer_is_shown() -> None:
    def made(slug: str, height: int) -> Picture:
        return Picture(slug, slug, "", "", f'<svg width="960" height="{height}"></svg>', True, Table((), []))

    large, small, other = made("effects", 900), made("paired-differences", 300), made("cost-bytes", 100)
    opening = Opening("", "", "", [], [], [], [], (), ("effects", "paired-"), [], [])
    drawn = [Section("a", "a", [other, large]), Section("b", "b", [small])]
    assert answering(opening, drawn) is large
    assert fitting_picture(opening, drawn) is small
    assert fitting_picture(opening, drawn[:1]) is None
