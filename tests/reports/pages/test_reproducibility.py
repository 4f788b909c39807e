"""What a page says of how to run its sweep again."""

import re

import pytest

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages import reproducibility
from autoflip_secure.reports.pages.report import render


def cells_of(page: str) -> str:
    found = re.search(r'<figure id="cells".*?</figure>', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_of_very_many_cells_a_page_has_the_first_and_says_where_all_are(
    small: list[RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cells_of(render(small, {"name": "few"}, figures=False))
    monkeypatch.setattr(reproducibility, "MOST_CELLS", len(small) - 1)
    monkeypatch.setattr(reproducibility, "FIRST_CELLS", 7)
    part = cells_of(render(small, {"name": "many"}, figures=False))
    named = [[record.cell in text for record in small] for text in (whole, part)]
    assert named == [[True] * len(small), [True] * 7 + [False] * (len(small) - 7)]
    said = f"Here are the first 7 of {len(small)}; <code>cells.csv</code>"
    assert said in part
    assert "Here are the first" not in whole
