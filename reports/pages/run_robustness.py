"""Robustness beside the outcome on a page: worked out once, for the report and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoflip_secure.reports.study.run_robustness import TOLERANCE, Row, majorities, rows
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.run_robustness import PageTable, exact_table, page_table
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.wording import run_robustness as words


@dataclass(frozen=True)
class Robustness:
    """What a page shows."""

    alarms: list[str]  # on the first screen; usually nothing
    said: list[str]  # above the table: trust where it is no alarm, majorities of cohorts
    table: PageTable[Row]
    hardest: PageTable[Row]  # the condition of each setting that costs the most, for a summary
    data: Table
    alarm_from: str = f"{1 + TOLERANCE:g}"


def robustness(study: Study) -> Robustness:
    """Of a whole sweep."""
    found = rows(study)
    return Robustness(
        alarms=words.alarms(found),
        said=[*words.alarms(found), *words.trust(found), *words.majorities(majorities(study))],
        table=page_table(found),
        hardest=page_table(_hardest(study, found)),
        data=exact_table(found),
    )


def _hardest(study: Study, found: Sequence[Row]) -> list[Row]:
    chosen = {study.hardest(facet) for facet in study.facets}
    return [row for row in found if row.condition in chosen]
