"""The first screen of the report, put together: its texts, and the picture that answers the question."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.records.compared import ALGORITHM, Compared
from autoflip_secure.reports.claims.findings import Claim
from autoflip_secure.reports.figures.sections import Section
from autoflip_secure.reports.figures.style import Picture
from autoflip_secure.reports.pages.asked_claims import with_claims
from autoflip_secure.reports.study.comparisons import Row, compare
from autoflip_secure.reports.study.contrasts import Effects, effects
from autoflip_secure.reports.study.levels import by_level, factor_words
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.worst_cases import Suites, WorstCases, suites_of, worst_cases
from autoflip_secure.reports.wording import contrasts, verdict
from autoflip_secure.reports.wording import worst_case as worst_words
from autoflip_secure.reports.wording.audit import headline as audit_headline
from autoflip_secure.reports.wording.verdict import Opening
from autoflip_secure.terminal.counting import listed

_TALLEST = 530  # CSS pixels, two rows of panels: higher ones are not read at the height of the first screen


@dataclass(frozen=True)
class FirstScreen:
    """What opens a report, and what the rest of it is about."""

    whole: Study  # by algorithms
    study: Study  # by what the scenario compares
    rows: list[Row]  # comparisons of ``study``
    opening: Opening
    suites: Suites | None
    worst: list[WorstCases]
    crossed: Effects | None  # of a sweep that compares several things


def opened(
    whole: Study,
    scenario: Mapping[str, Any],
    missing: int,
    audits: Sequence[AuditRecord] = (),
    weighed: Sequence[Claim] = (),
) -> FirstScreen:
    """Everything of ``whole`` that follows from what ``scenario`` compares; what ``audits`` showed stands before it,
    and so do claims (``weighed``) that it asks about.

    Raises:
        InputError: it says so in a way that is none.
    """
    paths = Compared.of(scenario).paths
    levels = [found for path in paths if (found := by_level(whole, path)) is not None]
    found = levels[0] if levels else by_level(whole, ALGORITHM) or whole
    rows = compare(found)
    crossed = effects(whole, paths) if len(paths) > 1 else None
    opening = verdict.opening(found, rows, scenario, missing, whole=whole)
    if crossed is not None and crossed.mains:
        opening = replace(
            opening, headline=contrasts.headline(crossed), numbers=contrasts.numbers(crossed),
            answer=[verdict.keep_units(text) for text in [*contrasts.answer(whole, crossed), *opening.about_privacy]],
            pictures=contrasts.PICTURES, caveats=[*contrasts.caveats(crossed), *opening.caveats],
        )  # fmt: skip
    if not levels and paths != (ALGORITHM,):
        words = listed([factor_words(path) for path in paths])
        text = f"The sweep compares {words}, of which one level has been run so far: what follows is about algorithms."
        opening = replace(opening, caveats=[text, *opening.caveats])
    suites = suites_of(scenario)
    worst = worst_cases(whole, alike=not suites.adaptive) if suites is not None else []
    if suites is not None and found.compared == ALGORITHM:
        opening = worst_words.with_worst(opening, whole, suites, worst, missing)
    elif found.compared == ALGORITHM and crossed is None:
        opening = with_claims(opening, whole, scenario, weighed)
    opening = worst_words.warned(opening, whole, suites)
    if audits:
        opening = _with_audits(opening, found, audits)
    return FirstScreen(whole, found, rows, opening, suites, worst, crossed)


def _with_audits(opening: Opening, study: Study, audits: Sequence[AuditRecord]) -> Opening:
    """What attackers showed comes first, and is the headline where every setting has one seed and settles nothing."""
    said = audit_headline(audits)
    answer = [f"Audit: {said[:1].lower()}{said[1:]}.", *opening.answer]
    if study.cells.groupby(["facet", "attack", "algorithm"])["seed"].nunique().max() > 1:
        return replace(opening, answer=answer)
    return replace(opening, headline=said, answer=answer, pictures=("bounds", *opening.pictures))


def answering(opening: Opening, drawn: Sequence[Section]) -> Picture | None:
    """The first picture of ``opening.pictures`` that was drawn; one that ends with a dash is the start of several."""
    return next(_listed(opening, drawn), None)


def _listed(opening: Opening, drawn: Sequence[Section]) -> Iterator[Picture]:
    """What was drawn of ``opening.pictures``, the best answer first."""
    pictures = [picture for section in drawn for picture in section.pictures]
    for slug in opening.pictures:
        for picture in pictures:
            if picture.slug == slug or (slug.endswith("-") and picture.slug.startswith(slug)):
                yield picture


def fitting_picture(opening: Opening, drawn: Sequence[Section]) -> Picture | None:
    """The first picture of ``opening.pictures`` that can be read at the size of the first screen."""
    return next((picture for picture in _listed(opening, drawn) if small_enough(picture)), None)


def small_enough(picture: Picture) -> bool:
    """Whether it can be read at the size of the first screen (``#picture`` in ``report.css``): no dozens of rows."""
    found = re.search(r'height="(\d+)"', picture.markup)
    return found is None or int(found[1]) <= _TALLEST


def ordered(opening: Opening, drawn: Sequence[Section]) -> list[Section]:
    """The section with the picture that answers the question comes first."""
    picture = answering(opening, drawn)
    return sorted(drawn, key=lambda section: picture not in section.pictures)
