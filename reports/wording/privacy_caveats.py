"""What a reader must know before any epsilon of a report: what has no guarantee, what went above its target, what an
epsilon is of."""

from __future__ import annotations

from autoflip_secure.records.proven import Bound, above_target, no_guarantee, unprotected
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.labels import clean_text, number
from autoflip_secure.reports.study.privacy import ONE_RUN
from autoflip_secure.reports.study.settings import private
from autoflip_secure.reports.study.study import Study
from autoflip_secure.terminal.counting import some

_NAMED = 3  # settings in one sentence


def caveats(study: Study) -> list[str]:
    """Sentences for "keep in mind"; none without privacy."""
    found = private(study)
    return [*_unproven(found), *_above(found), ONE_RUN] if found else []


def _unproven(found: list[tuple[str, RunRecord]]) -> list[str]:
    """One sentence for each set of observers against whom there is no guarantee."""
    lacking: dict[str, list[tuple[str, RunRecord]]] = {}
    for name, record in found:
        if words := no_guarantee([record.privacy]):
            lacking.setdefault(words, []).append((name, record))
    return [
        f"{len(runs)} of {len(found)} private runs have {words} ({_some([name for name, _ in runs])}): "
        f"{_reason(runs[0][1])}."
        for words, runs in lacking.items()
    ]


def _reason(record: RunRecord) -> str:
    assert record.privacy is not None
    missing = unprotected(record.privacy)
    lacking = [g for g in record.privacy.guarantees if g.observer in missing]
    return clean_text("; ".join(dict.fromkeys("no bound is finite" if g.proven else g.reason for g in lacking)))


def _above(runs: list[tuple[str, RunRecord]]) -> list[str]:
    found: list[tuple[str, float, Bound]] = []
    for name, record in runs:
        target = (record.config.get("privacy") or {}).get("target_epsilon")
        if target is not None:
            found += [(name, float(target), bound) for bound in above_target(record.privacy, target)]
    if not found:
        return []
    name, target, worst = max(found, key=lambda one: one[2].epsilon / one[1])
    return [
        f"Above their target: {_some([name for name, _, _ in found])}. The ledger counts what was released, which was "
        f"more than was planned: a run that was begun again, for instance. The largest excess is in {name}: the "
        f"target is {number(target)}, and the ledger proves {worst}."
    ]


def _some(names: list[str]) -> str:
    return some(list(dict.fromkeys(names)), _NAMED, "; ")
