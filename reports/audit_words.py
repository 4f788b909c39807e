"""The verdict of an audit in words."""

from __future__ import annotations

from collections.abc import Sequence

from autoflip_secure.audit_record import AuditRecord
from reports.figures_audit import named
from reports.privacy_words import epsilon_text


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
    return [f"{headline(records)}.", *(f"{name}: {summary(record)}" for name, record in named(records))]


def summary(record: AuditRecord) -> str:
    """What was proven and what was shown for one setting, in one line."""
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
    best = max(record.membership, key=lambda m: m.auc.value, default=None)
    parts.append(
        "membership: not attacked, the notes say why"
        if best is None
        else f"best membership AUC {best.auc.value:.2f} [{best.auc.low:.2f}, {best.auc.high:.2f}] "
        f"({best.attack}, {best.view})"
    )
    looks = {look.view: look for look in record.labels}
    look = looks.get("securely summed") if record.parties else looks.get("as sent", looks.get("plain"))
    if look is not None:
        parts.append(
            f"{100 * look.accuracy.value:.0f} % of a client's classes guessed from "
            f"{'the sum of the deviations' if record.parties else 'what the server gets'} (chance "
            f"{100 * look.chance:.0f} %)"
        )
    return "; ".join(parts) + "."
