"""What is proven, in one table: setting × observer, with target, epsilon, delta, neighbours and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoflip_secure.records.privacy import Guarantee
from autoflip_secure.records.proven import bound, weakest, who
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.labels import clean_text, number
from autoflip_secure.reports.study.privacy import claimed_words
from autoflip_secure.reports.study.settings import settings
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table, Upper

COLUMNS = ["setting", "runs", "asked for", "against", "epsilon", "delta", "neighbours", "rests on"]


def guarantee_table(study: Study) -> Table:
    """A row per private setting and observer, true of every run that it counts, whatever its seed and attack."""
    rows: list[list[Any]] = []
    for name, runs in settings(study):
        observers = dict.fromkeys(g.observer for run in runs if run.privacy for g in run.privacy.guarantees)
        for observer in observers:
            own = [g for run in runs if run.privacy for g in run.privacy.guarantees if g.observer == observer]
            for row in _rows(own):
                rows.append([name, row[0], _asked(runs[0]), who(observer), *row[1:]])
    return Table(COLUMNS, rows)


def _rows(guarantees: Sequence[Guarantee]) -> list[list[Any]]:
    """How many runs, epsilon, delta, neighbours and basis; a row for each kind of neighbours that some run has."""
    lacking = next((g for g in guarantees if bound(g) is None), None)
    if lacking is not None:
        why = (
            lacking.reason
            if not lacking.proven
            else "nothing was released"
            if not lacking.clients
            else "no finite bound"
        )
        return [[len(guarantees), "no guarantee", None, None, clean_text(why)]]
    found = [b for g in guarantees if (b := bound(g)) is not None]
    told = []
    for relation in dict.fromkeys(b.relation for b in found):
        alike = [b for b in found if b.relation == relation]
        one = weakest(alike)
        basis = next(g.reason for g in guarantees if g.relation == relation)
        kept = f"; secret {one.secret}" if one.secret else ""
        told.append([len(alike), Upper(one.epsilon), Upper(one.delta), one.relation, f"{clean_text(basis)}{kept}"])
    return told


def _asked(record: RunRecord) -> str:
    privacy = record.config.get("privacy") or {}
    if privacy.get("target_epsilon") is not None:
        return f"target ε {number(privacy['target_epsilon'])}"
    if claimed := claimed_words(privacy):
        return claimed
    return f"σ {number(privacy['noise_multiplier'])}" if privacy.get("noise_multiplier") is not None else ""
