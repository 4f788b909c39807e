"""What audited settings are called."""

from __future__ import annotations

from collections.abc import Sequence

from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.records.proven import no_guarantee
from autoflip_secure.reports.study.labels import attack_label, is_clean, passage, pretty, shorten
from autoflip_secure.reports.study.privacy import protection

_LONGEST = 160  # characters of a setting's name anywhere


def setting(record: AuditRecord) -> str:
    """What a record is called in figures and tables."""
    attack = "" if is_clean(record.attack) else f", {attack_label(record.attack)}"
    parties = f", {passage(record.parties)}" if record.parties else ""
    return (
        f"{pretty(record.algorithm)} · {protection(record.protection, no_guarantee([record.privacy]))}{parties}{attack}"
    )


def named(records: Sequence[AuditRecord]) -> list[tuple[str, AuditRecord]]:
    """(name, record), with a number where names repeat."""
    found: list[tuple[str, AuditRecord]] = []
    for record in records:
        name = shorten(setting(record), _LONGEST)
        same = sum(other == name or other.startswith(f"{name} (") for other, _ in found)
        found.append((f"{name} ({same + 1})" if same else name, record))
    return found
