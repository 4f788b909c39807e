"""One whole report for all tests of pages: to draw its figures takes seconds."""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.sections import Section, sections
from autoflip_secure.reports.figures.style import Picture
from autoflip_secure.reports.pages.report import render


@pytest.fixture(scope="session")
def made(small: list[RunRecord], scenario: dict[str, Any]) -> tuple[str, list[Picture]]:
    """A whole report, and the pictures that were drawn for it."""
    before, drawn = dict(mpl.rcParams), list[Picture]()

    def noted(*arguments: Any) -> list[Section]:
        found = sections(*arguments)
        drawn.extend(picture for section in found for picture in section.pictures)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoflip_secure.reports.pages.report.sections", noted)
        text = render(small, scenario, command="autoflip-secure sweep synthetic.yaml")
    assert dict(mpl.rcParams) == before  # no global state is touched
    assert plt.get_fignums() == []
    return text, drawn
