"""The page of an audit: the verdict first, then what was released to whom, what is proven, what attackers achieved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoflip_secure.audit_record import AuditRecord
from reports import figures_audit, labels
from reports.figures_audit import named
from reports.files import write
from reports.page import as_yaml, page
from reports.privacy_words import EVIDENCE, MEANING, epsilon_text, ledger_rows, proven
from reports.sections import draw

FEW_CELLS = 40  # ledgers shown on one page


def headline(records: Sequence[AuditRecord]) -> str:
    """The verdict in one sentence."""
    broken = [(name, b) for name, r in named(records) for b in r.empirical if b.violated]
    if broken:
        name, bound = max(broken, key=lambda pair: pair[1].lower)
        return (
            f"Violated: an attacker showed epsilon of at least {bound.lower:.2f} where at most "
            f"{epsilon_text(bound.proven)} is claimed ({name})"
        )
    if not any(b.proven is not None for r in records for b in r.empirical):
        return "Nothing is proven for these settings; this is what attackers achieved"
    return "No attacker showed more than is proven"


def sentences(records: Sequence[AuditRecord]) -> list[str]:
    """The verdict, and one sentence on each setting."""
    return [f"{headline(records)}.", *(f"{name}: {_summary(record)}" for name, record in named(records))]


def _summary(record: AuditRecord) -> str:
    parts = [f"accuracy {100 * record.final_accuracy:.1f} %"]
    if record.privacy is None:
        parts.append("nothing is proven")
    else:
        for guarantee in record.privacy.guarantees:
            value = record.privacy.epsilon(guarantee.observer)
            parts.append(
                f"no guarantee against the {guarantee.observer}"
                if value is None
                else f"ε ≤ {epsilon_text(value)} against the {guarantee.observer}"
            )
    for unit in ("sample", "client"):
        own = [b.lower for b in record.empirical if b.unit == unit]
        if own:
            parts.append(f"shown for {unit}s: ε ≥ {max(own):.2f}")
    best = max(record.membership, key=lambda m: m.auc.value)
    parts.append(
        f"best membership AUC {best.auc.value:.2f} [{best.auc.low:.2f}, {best.auc.high:.2f}] "
        f"({best.attack}, {best.view})"
    )
    sent = next((look for look in record.labels if look.view == "as sent"), None)
    look = sent or next((look for look in record.labels if look.view == "plain"), None)
    if look is not None:
        parts.append(
            f"{100 * look.accuracy.value:.0f} % of a client's classes guessed from what is sent (chance "
            f"{100 * look.chance:.0f} %)"
        )
    return "; ".join(parts) + "."


def write_audit(records: Sequence[AuditRecord], scenario: Mapping[str, Any], path: Path, *, command: str = "") -> Path:
    """Write the page to ``path``.

    Args:
        records: at least one audit.
        scenario: as a document; its name and question are on the page.
        path: the HTML file.
        command: what to type to run the audit again.

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
                "notes": [labels.clean_text(note) for note in record.notes],
            }
        )
    versions = {f"{name} {version}" for record in records for name, version in record.versions.items()}
    return page(
        "audit.html.j2",
        name=labels.shorten(labels.clean_text(scenario.get("name") or "scenario"), 120),
        question=labels.clean_text(scenario.get("question") or ""),
        headline=headline(records),
        violated=any(record.violated for record in records),
        summaries=[(name, _summary(record)) for name, record in named(records)],
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
        more_ledgers=max(0, len(records) - FEW_CELLS),
        seeds=sorted({record.seed for record in records}),
        cells=[f"{record.cell}  {name}" for name, record in named(records)],
        efforts=[", ".join(f"{k} {v}" for k, v in effort.items()) for effort in _distinct(records)],
        versions=sorted(labels.clean_text(v) for v in versions),
        command=labels.clean_text(command),
        scenario_yaml=as_yaml(scenario),
    )


def _distinct(records: Sequence[AuditRecord]) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    for record in records:
        if record.effort not in found:
            found.append(record.effort)
    return found
