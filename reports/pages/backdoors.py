"""Backdoors on a page: worked out once, for the report and its summary."""

from __future__ import annotations

from dataclasses import dataclass

from autoflip_secure.reports.study.backdoors import Planted, planted
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.backdoors import backdoor_table, exact_backdoors
from autoflip_secure.reports.tables.run_robustness import PageTable
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.wording.backdoors import success_sentences


@dataclass(frozen=True)
class Backdoors:
    """What a page shows; no sentences and no lines where nobody planted one."""

    said: list[str]
    table: PageTable[Planted]
    data: Table


def backdoors(study: Study) -> Backdoors:
    """Of a whole sweep."""
    found = planted(study)
    return Backdoors(success_sentences(found), backdoor_table(found), exact_backdoors(found))
