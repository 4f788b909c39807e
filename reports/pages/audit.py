"""The page of an audit: the verdict first, then what was released to whom, what is proven, what attackers achieved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.reports.figures import audit as figures_audit
from autoflip_secure.reports.figures.sections import draw
from autoflip_secure.reports.pages.page import as_yaml, page
from autoflip_secure.reports.pages.statement import SIGNERS
from autoflip_secure.reports.pages.writing import write
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.audited import named
from autoflip_secure.reports.study.privacy import EVIDENCE, MEANING, derived, ledger_rows, proven
from autoflip_secure.reports.wording.audit import headline, said, summary, verdict_lines
from autoflip_secure.reports.wording.statement import ALWAYS_OPEN, open_for
from autoflip_secure.runtime.threads import one_thread

FEW_CELLS = 40  # ledgers shown on one page

CALIBRATED_WORDS = (
    "Proven: the largest epsilon of everything released, rounded up. Shown: what the guesses refute, rounded down; a "
    "ledger that states less for this mechanism is wrong. At most: what would have been shown if every guess had "
    "been right; where that is below what is proven, the line cannot fail and says nothing. Calibrated lines run the "
    "same code on the same schedule with all noise scaled by the factor, so that epsilon is about 1: a wrong clip "
    "norm, a wrong scale, missing noise or an uncounted release shows there, whatever the scenario's noise hides."
)


@one_thread()
def write_audit(records: Sequence[AuditRecord], scenario: Mapping[str, Any], path: Path, *, command: str = "") -> Path:
    """Write the page to ``path``; ``command``: what to type to run the audit again.

    Raises:
        StoreError: the folder cannot be written.
    """
    write(path, render_audit(records, scenario, command=command))
    return path


def render_audit(records: Sequence[AuditRecord], scenario: Mapping[str, Any], *, command: str = "") -> str:
    """The page as text."""
    ledgers = []
    for name, record in named(records)[:FEW_CELLS]:
        rows, left_out = ledger_rows(record.privacy) if record.privacy else ([], 0)
        ledgers.append(
            {
                "name": name,
                "proven": [proven(g) for g in record.privacy.guarantees] if record.privacy else [],
                "rows": rows,
                "left_out": left_out,
                "derived": derived(record.privacy) if record.privacy else "",
                "notes": [labels.clean_text(note) for note in record.notes],
            }
        )
    versions = {f"{name} {version}" for record in records for name, version in record.versions.items()}
    return page(
        "audit.html.j2",
        name=labels.shorten(labels.clean_text(scenario.get("name") or "scenario"), 120),
        question=labels.clean_text(scenario.get("question") or ""),
        headline=headline(records),
        violated=any(record.verdict == "violated" for record in records),
        unclear=any(record.verdict == "cannot tell" for record in records),
        lines=verdict_lines(records),
        calibrated=CALIBRATED_WORDS,
        summaries=[(name, summary(record)) for name, record in named(records)],
        meaning=MEANING,
        evidence=EVIDENCE,
        sections=draw(
            [
                ("shown", "Bounds from above and below", [lambda: figures_audit.bounds(records)]),
                ("members", "Who was in the data?", [lambda: figures_audit.membership(records)]),
                ("classes", "Which classes does a client own?", [lambda: figures_audit.labels(records)]),
            ]
        ),
        ledgers=ledgers,
        said=said(records[:FEW_CELLS]),
        not_covered=[*_open(records), *ALWAYS_OPEN],
        signers=SIGNERS,
        more_ledgers=max(0, len(records) - FEW_CELLS),
        seeds=sorted({record.seed for record in records}),
        cells=[f"{record.cell}  {name}" for name, record in named(records)],
        efforts=[", ".join(f"{k} {v}" for k, v in effort.items()) for effort in _distinct(records)],
        versions=sorted(labels.clean_text(v) for v in versions),
        command=labels.clean_text(command),
        scenario_yaml=as_yaml(scenario),
    )


def _open(records: Sequence[AuditRecord]) -> list[str]:
    """What the guarantees of these settings do not say about other units."""
    known = [record.privacy for record in records if record.privacy is not None]
    return [
        text
        for unit in ("client", "sample")
        if any(privacy.unit == unit for privacy in known)
        for text in open_for(unit, [g.relation for p in known if p.unit == unit for g in p.guarantees if g.proven])
    ]


def _distinct(records: Sequence[AuditRecord]) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    for record in records:
        if record.effort not in found:
            found.append(record.effort)
    return found
