"""The page of ``claims``: every claim of the paper and its review with a verdict, and the same as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoflip_secure.reports.claims.findings import DECIDED, Evidence
from autoflip_secure.reports.claims.portfolio import AnsweredClaim, Unit
from autoflip_secure.reports.claims.words import VERDICTS, effect, headline, opening, seeds_needed, verdict
from autoflip_secure.reports.figures.claims import effects
from autoflip_secure.reports.figures.style import drawing
from autoflip_secure.reports.pages.page import page
from autoflip_secure.reports.pages.writing import write
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.runtime.threads import one_thread

FORMAT = 1


@one_thread()
def write_claims(tested: Sequence[AnsweredClaim], path: Path, *, quick: bool, command: str, cells: int) -> Path:
    """Write the page to ``path`` and the same as JSON beside it.

    Args:
        tested: every claim, in the order of the page.
        path: the HTML file; the JSON has its name and ``.json``.
        quick: whether little of each scenario was run.
        command: what to type to go on, or to make it again.
        cells: runs that the answers rest on.

    Raises:
        StoreError: a file cannot be written.
    """
    text = render_claims(tested, quick=quick, command=command, cells=cells)
    data = as_data(tested, quick=quick, command=command, cells=cells)
    write(path.with_suffix(".json"), json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write(path, text)
    return path


def render_claims(tested: Sequence[AnsweredClaim], *, quick: bool, command: str, cells: int) -> str:
    """The page as text."""
    with drawing():
        picture = effects(tested)
    return page(
        "claims_page.html.j2",
        name="AutoFLIP, claim by claim",
        headline=headline(tested),
        sentences=opening(tested),
        quick=quick,
        cells=cells,
        picture=picture,
        rows=[_row(one) for one in tested],
        tested=sum(bool(one.claim.evidence) for one in tested),
        claims_data=_table(tested),
        scenarios=list({one.command: one for one in tested if one.command}.values()),
        command=clean_text(command),
    )


def _row(one: AnsweredClaim) -> dict[str, Any]:
    where = one.deciding
    return {
        "key": one.asked.key,
        "says": one.claim.says,
        "source": one.asked.source,
        "claim": one.claim,
        "answer": one.claim.answer.name.lower(),
        "word": VERDICTS[one.claim.answer],
        "verdict": verdict(one),
        "seeds": seeds_needed(one),
        "effect": effect(where, one.asked.unit),
        "where": where.where if where is not None else "",
        "places": [(e.where, VERDICTS[e.answer], e.text, e.interval.n, e.seeds_needed) for e in one.claim.evidence],
        "measured": one.claim.measured,
        "notes": one.claim.notes,
        "needs": one.claim.needs,
        "scenario": one.asked.scenario if one.command else "",
        "conditions": one.conditions,
    }


def _table(tested: Sequence[AnsweredClaim]) -> Table:
    """A line for every claim, for a spreadsheet."""
    columns = [
        "claim",
        "says",
        "source",
        "verdict",
        "p",
        "p Holm",
        "deciding place",
        "effect",
        "seeds needed",
        "scenario",
        "conditions",
    ]
    rows = []
    for one in tested:
        where = one.deciding
        rows.append(
            [
                one.asked.key, one.claim.says, one.asked.source, VERDICTS[one.claim.answer],
                one.claim.p if one.claim.evidence else None, one.claim.corrected,
                where.where if where is not None else "", effect(where, one.asked.unit), seeds_needed(one),
                one.asked.scenario if one.command else "", one.conditions or one.claim.needs,
            ]
        )  # fmt: skip
    return Table(columns, rows)


def as_data(tested: Sequence[AnsweredClaim], *, quick: bool, command: str, cells: int) -> dict[str, Any]:
    """Everything on the page as plain data; numbers in the unit that stands beside them."""
    return {
        "format": FORMAT,
        "quick": quick,
        "command": clean_text(command),
        "cells": cells,
        "headline": headline(tested),
        "claims": [_claim(one) for one in tested],
    }


def _claim(one: AnsweredClaim) -> dict[str, Any]:
    where, unit = one.deciding, one.asked.unit
    return {
        "key": one.asked.key,
        "claim": one.claim.says,
        "source": one.asked.source,
        "verdict": VERDICTS[one.claim.answer],
        "p": one.claim.p if one.claim.evidence else None,
        "p_among_all": one.claim.corrected,
        "stands_among_all": None if one.claim.answer not in DECIDED else not one.claim.lost,
        "seeds_needed": seeds_needed(one),
        "why_not_tested": one.claim.needs or None,
        "unit": unit.name,
        "deciding": None if where is None else _place(where, unit),
        "places": [_place(e, unit) for e in one.claim.evidence],
        "measured": one.claim.measured,
        "notes": list(one.claim.notes),
        "tested_by": one.command or None,
        "conditions": one.conditions or None,
    }


def _place(found: Evidence, unit: Unit) -> dict[str, Any]:
    bound = found.bound
    return {
        "place": found.where,
        "verdict": VERDICTS[found.answer],
        "seeds": found.interval.n,
        "effect": unit.scale * found.interval.mean,
        "interval": _ends(found.interval, unit),
        "simultaneous_interval": _ends(found.simultaneous or found.interval, unit),
        "supported_from": None if bound is None else unit.scale * bound.support,
        "refuted_below": None if bound is None else unit.scale * bound.refute,
        "seeds_needed": found.seeds_needed,
        "text": found.text,
    }


def _ends(interval: Interval, unit: Unit) -> list[float] | None:
    if interval.low is None or interval.high is None:
        return None
    return [unit.scale * interval.low, unit.scale * interval.high]
