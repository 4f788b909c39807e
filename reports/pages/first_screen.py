"""The first screen of the report, put together: its texts, and the picture that answers the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoflip_secure.reports.figures.sections import Section
from autoflip_secure.reports.figures.style import Picture
from autoflip_secure.reports.study.comparisons import Row
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.worst_cases import Suites, WorstCases, suites_of, worst_cases
from autoflip_secure.reports.wording import verdict
from autoflip_secure.reports.wording import worst_case as worst_words
from autoflip_secure.reports.wording.verdict import Opening


def opened(
    found: Study, rows: list[Row], scenario: Mapping[str, Any], missing: int
) -> tuple[Opening, Suites | None, list[WorstCases]]:
    """The texts, the suites of the scenario, and the worst cases over them; none without a suite."""
    opening, suites = verdict.opening(found, rows, scenario, missing), suites_of(scenario)
    if suites is None:
        return opening, None, []
    worst = worst_cases(found)
    return worst_words.with_worst(opening, found, suites, worst, missing), suites, worst


def answering(opening: Opening, drawn: Sequence[Section]) -> Picture | None:
    """The first picture of ``opening.pictures`` that was drawn; one that ends with a dash is the start of several."""
    pictures = [picture for section in drawn for picture in section.pictures]
    for slug in opening.pictures:
        for picture in pictures:
            if picture.slug == slug or (slug.endswith("-") and picture.slug.startswith(slug)):
                return picture
    return None
