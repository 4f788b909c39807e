"""What fits the first screen: a picture that can be read at its size."""

import pytest

from autoflip_secure.reports.figures.style import Picture
from autoflip_secure.reports.pages.first_screen import small_enough
from autoflip_secure.reports.tables.text import Table


@pytest.mark.parametrize(
    ("markup", "fits"),
    [
        ('<svg class="plot-svg" width="960" height="503" viewBox="0 0 720 377"></svg>', True),
        ('<svg class="plot-svg" width="500" height="500"></svg>', True),
        ('<img class="broad" src="data:image/png;base64,aa" width="960" height="1964" alt="many rows">', False),
    ],
)
def test_a_picture_taller_than_wide_is_linked_and_not_shown(markup: str, fits: bool) -> None:
    picture = Picture("x", "x", "x", "x", markup, markup.startswith("<svg"), Table((), []))
    assert small_enough(picture) is fits
