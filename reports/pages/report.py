"""The report: one self-contained HTML file, and next to it the tidy results and a summary in Markdown.

.. code-block:: text

    report.html       verdict, figures with their data, statistics, reproducibility
    report.md         the verdict for a pull request
    results.csv       one row per cell and round
    results.parquet   the same, with types (where pyarrow is installed, as all Parquet files)
    cells.csv         one row per cell
    cells.parquet     the same, with types
    worst_cases.*     of a sweep with a suite: one row per setting and algorithm
    tuning.*          of a tuned sweep: one row per setting, algorithm, candidate and tuning seed

``docs/results.md`` describes the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.records.budget import Budget
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims.findings import Claim
from autoflip_secure.reports.claims.paper import claims
from autoflip_secure.reports.claims.words import lost
from autoflip_secure.reports.figures.releases import ledgers
from autoflip_secure.reports.figures.sections import Section, sections
from autoflip_secure.reports.pages.backdoors import Backdoors, backdoors
from autoflip_secure.reports.pages.first_screen import FirstScreen, answering, fitting_picture, opened, ordered
from autoflip_secure.reports.pages.markdown import summary
from autoflip_secure.reports.pages.page import page
from autoflip_secure.reports.pages.reproducibility import reproducibility
from autoflip_secure.reports.pages.run_robustness import Robustness, robustness
from autoflip_secure.reports.pages.table_files import write_tables
from autoflip_secure.reports.pages.writing import make_folder, write
from autoflip_secure.reports.statistics.degradation_curve import BREAKDOWN_MARGIN
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.degradation import degradations
from autoflip_secure.reports.study.levels import against_words, level_title
from autoflip_secure.reports.study.missing_cells import name_missing
from autoflip_secure.reports.study.privacy import (
    EVIDENCE,
    MEANING,
    ONE_RUN,
    derived,
    exceeded,
    ledger_rows,
    proven_sentences,
)
from autoflip_secure.reports.study.study import Study, study
from autoflip_secure.reports.study.threat_cards import Cards
from autoflip_secure.reports.study.tuned import Choice, choices
from autoflip_secure.reports.tables.cells_frame import cells_frame
from autoflip_secure.reports.tables.frames import described, tidy_parts
from autoflip_secure.reports.tables.guarantees import guarantee_table
from autoflip_secure.reports.tables.statistics import statistics_table, without_interval
from autoflip_secure.reports.tables.summaries import claims_table, degradation_rows, degradation_table, tally
from autoflip_secure.reports.tables.tuning import chosen_table, tuning_frame
from autoflip_secure.reports.tables.worst_cases import worst_frame, worst_table
from autoflip_secure.reports.wording import budget as budget_words
from autoflip_secure.reports.wording import secure as secure_words
from autoflip_secure.reports.wording import tuning as tuning_words
from autoflip_secure.reports.wording import worst_case as worst_words
from autoflip_secure.reports.wording.audit import headline
from autoflip_secure.runtime.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Section", "render", "sections", "write_report"]


@one_thread()
def write_report(
    records: Sequence[RunRecord],
    scenario: Mapping[str, Any],
    path: Path,
    *,
    missing: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    command: str = "",
    audits: Sequence[AuditRecord] = (),
    budgets: Sequence[Budget] = (),
    outcome: OutcomeRule | None = None,
) -> Path:
    """Write the report to ``path``; the other files into the same folder.

    Args:
        records: finished cells, in any order.
        scenario: the scenario they come from, as a document; its ``name`` and ``question`` open the report.
        path: the HTML file.
        missing: cells of the sweep that have no usable record: ``cell``, ``algorithm``, ``seed``, ``axes``, ``config``.
        notes: what the reader must know of the folder: what was left out, and why.
        command: what to type to run the sweep again.
        audits: of its cells; they get a section of their own.
        budgets: what all private cells of the folder cost together.
        outcome: which evaluations of a run count; left out, the scenario says it.

    Returns:
        ``path``.

    Raises:
        InputError: no record, or a scenario with an outcome that is none.
        StoreError: the folder cannot be written.
    """
    rule = OutcomeRule.of(scenario) if outcome is None else outcome
    content = _Content.of(records, scenario, rule, len(missing), audits)
    screen, made = content.screen, content.tuned
    make_folder(path)
    text = _rendered(content, scenario, missing, notes, command=command, audits=audits, budgets=budgets)
    known = described(records, rule)
    tables: dict[str, Iterable[pd.DataFrame]] = {
        "results": tidy_parts(records, known),
        "cells": [cells_frame(records, rule, known)],
    }
    tables |= {"worst_cases": [worst_frame(screen.worst)]} if screen.worst else {}
    tables |= {"tuning": [tuning_frame(made)]} if made else {}
    write_tables(tables, path.parent)
    write(
        path.with_suffix(".md"),
        summary(
            screen.study,
            screen.opening,
            content.claims,
            name=_name(scenario),
            robustness=content.robustness,
            backdoors=content.backdoors.said,
            missing=name_missing(missing),
            notes=notes,
            link=path.name,
            worst=screen.worst,
            tuned=chosen_table(made),
            cards=Cards(screen.whole),
        ),
    )
    write(path, text)
    return path


def render(
    records: Sequence[RunRecord],
    scenario: Mapping[str, Any],
    *,
    missing: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    command: str = "",
    audits: Sequence[AuditRecord] = (),
    budgets: Sequence[Budget] = (),
    outcome: OutcomeRule | None = None,
    figures: bool = True,
) -> str:
    """The report as text; arguments and errors as in :func:`write_report`. Without ``figures`` it takes no seconds."""
    rule = OutcomeRule.of(scenario) if outcome is None else outcome
    content = _Content.of(records, scenario, rule, len(missing), audits)
    return _rendered(
        content, scenario, missing, notes, command=command, audits=audits, budgets=budgets, figures=figures
    )


@dataclass(frozen=True)
class _Content:
    """What page and summary both say: found once."""

    screen: FirstScreen
    tuned: list[Choice]
    claims: list[Claim]
    robustness: Robustness
    backdoors: Backdoors

    @classmethod
    def of(
        cls,
        records: Sequence[RunRecord],
        scenario: Mapping[str, Any],
        rule: OutcomeRule,
        missing: int,
        audits: Sequence[AuditRecord],
    ) -> Self:
        """``missing``: how many cells."""
        found = study(records, rule)
        weighed = claims(found)
        screen = opened(found, scenario, missing, audits, weighed)
        return cls(screen, choices(found), weighed, robustness(found), backdoors(found))


def _rendered(
    content: _Content,
    scenario: Mapping[str, Any],
    missing: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    *,
    command: str,
    audits: Sequence[AuditRecord],
    budgets: Sequence[Budget],
    figures: bool = True,
) -> str:
    """The page; arguments as of :func:`render`."""
    screen, made = content.screen, content.tuned
    found, asked, rows, opening = screen.whole, screen.study, screen.rows, screen.opening
    drawn = sections(found, rows, audits, screen.worst, asked, screen.crossed) if figures else []
    answer = answering(opening, drawn)
    return page(
        "report.html.j2",
        name=_name(scenario),
        study=asked,
        level_title=level_title(asked.compared),
        against=against_words(asked) if asked.baseline else "",
        opening=opening,
        rows=rows,
        statistics=statistics_table(rows, asked.baseline),
        without_interval=without_interval(rows),
        **_summaries(content.claims, asked),
        threat_cards=Cards(found),
        filtered=list(dict.fromkeys([*asked.algorithms, *found.algorithms])),
        robustness=content.robustness,
        backdoors=content.backdoors,
        **_privacy(found),
        sections=ordered(opening, drawn),
        picture=answer,
        shown=fitting_picture(opening, drawn),
        suites=screen.suites,
        worst_cases=screen.worst,
        worst_data=worst_table(screen.worst),
        fixed_only=worst_words.FIXED_ONLY,
        tuning_how=tuning_words.how(made, found) if made else "",
        tuning_data=chosen_table(made),
        audit_headline=headline(audits) if audits else "",
        budget_why=budget_words.WHY,
        budgets=[(budget_words.rows(one), budget_words.remarks(one)) for one in budgets],
        evidence=EVIDENCE,
        secure_lines=secure_words.lines(found, audits),
        missing=name_missing(missing),
        missing_cells=len(missing),
        folder_notes=[labels.clean_text(note) for note in notes],
        **reproducibility(found, scenario, command),
    )


def _summaries(weighed: list[Claim], asked: Study) -> dict[str, Any]:
    lines = degradations(asked)
    return {
        "claims": weighed,
        "claims_tally": tally(weighed),
        "claims_lost": lost(weighed),
        "claims_data": claims_table(weighed),
        "degradation_rows": degradation_rows(lines),
        "degradation_data": degradation_table(lines),
        "breakdown_margin": f"{100 * BREAKDOWN_MARGIN:g}",
    }


def _privacy(found: Study) -> dict[str, Any]:
    shown, more = ledgers(found)
    entries = []
    for name, record in shown:
        assert record.privacy is not None
        rows, left_out = ledger_rows(record.privacy)
        above = [text] if (text := exceeded(record.privacy, record.config.get("privacy") or {})) else []
        entries.append(
            {
                "name": name,
                "proven": [*above, *proven_sentences(record.privacy)],
                "rows": rows,
                "left_out": left_out,
                "derived": derived(record.privacy),
                "notes": [labels.clean_text(note) for note in record.privacy.notes],
            }
        )
    return {
        "ledgers": entries,
        "more_ledgers": more,
        "guarantees": guarantee_table(found),
        "privacy_meaning": [MEANING, ONE_RUN],
    }


def _name(scenario: Mapping[str, Any]) -> str:
    return labels.shorten(labels.clean_text(scenario.get("name") or "sweep"), 120)
