"""The verdict of an audit in words, and its table: what is proven, what was shown, what could have been shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoflip_secure.records.audit import AuditRecord, EmpiricalEpsilon, LabelInference, verdict_of
from autoflip_secure.records.privacy import Guarantee
from autoflip_secure.records.proven import who
from autoflip_secure.records.rounding import lower_text, upper_delta, upper_text
from autoflip_secure.reports.study.audited import named
from autoflip_secure.reports.study.labels import percent


@dataclass(frozen=True)
class Line:
    """One line of the table: a setting, who looks, and under which noise."""

    setting: str
    observer: str
    noise: str  # "as run", "calibrated, × 4.08"
    proven: str
    delta: str
    relation: str
    shown: str
    ceiling: str
    verdict: str
    note: str  # of what alone more was shown than is proven


def headline(records: Sequence[AuditRecord]) -> str:
    """The verdict in one sentence: violations first, then what cannot be told, what nobody promises, and classes."""
    pairs = named(records)
    broken = [(name, b) for name, r in pairs for b in r.empirical if b.violated]
    if broken:
        name, bound = max(broken, key=lambda pair: pair[1].lower - (pair[1].proven or 0.0))
        return (
            f"Violated: an attacker showed epsilon of at least {lower_text(bound.lower)} where at most "
            f"{upper_text(bound.proven)} is claimed ({name})"
        )
    parts = []
    unclear = [name for name, r in pairs if r.verdict == "cannot tell"]
    held = [name for name, r in pairs if r.verdict == "holds"]
    if unclear:
        parts.append(f"Cannot tell for {_some(unclear, pairs)}: no attack could have shown as much as is proven")
    if held:
        parts.append("No attacker showed more than is proven" + (f" for {_some(held, pairs)}" if unclear else ""))
    if not unclear and not held:
        parts.append("Nothing is proven for these settings; this is what attackers achieved")
    bare = [name for name, r in pairs if r.verdict == "no guarantee"]
    if bare and len(bare) < len(pairs):
        parts.append(f"no guarantee for {_some(bare, pairs)}")
    half = [name for name, r in pairs if r.verdict != "no guarantee" and any(not g.proven for g in _guarantees(r))]
    if half:
        parts.append(f"against some observers no guarantee for {_some(half, pairs)}")
    looks = [look for _, record in pairs if (look := guessed(record)) is not None]
    worst = max(looks, key=lambda look: look.accuracy.value - look.chance, default=None)
    if worst is not None and worst.accuracy.low > worst.chance:
        share, chance = (f"{100 * value:.0f} %" for value in (worst.accuracy.value, worst.chance))
        parts.append(f"up to {share} of a client's classes guessed (chance {chance})")
    return "; ".join(parts)


def _some(names: Sequence[str], pairs: Sequence[tuple[str, AuditRecord]]) -> str:
    if len(pairs) == 1:
        return "this setting"
    return names[0] if len(names) == 1 else f"{len(names)} of {len(pairs)} settings"


def _guarantees(record: AuditRecord) -> list[Guarantee]:
    return [] if record.privacy is None else record.privacy.guarantees


def guessed(record: AuditRecord) -> LabelInference | None:
    """Classes guessed from what really leaves the clients; None: nothing to guess."""
    looks = {look.view: look for look in record.labels}
    return looks.get("securely summed") if record.parties else looks.get("as sent", looks.get("plain"))


def verdict_lines(records: Sequence[AuditRecord]) -> list[Line]:
    """The table: every setting and observer, with the scenario's noise and with calibrated noise."""
    return [line for name, record in named(records) for line in _lines(name, record)]


def _lines(name: str, record: AuditRecord) -> list[Line]:
    if record.privacy is None:
        shown = [bound for bound in record.empirical if bound.proven is None]
        return [_line(name, "anybody", "as run", shown, None)]
    found = []
    for guarantee in record.privacy.guarantees:
        seen_by = who(guarantee.observer)
        own = [b for b in record.empirical if b.observer == guarantee.observer and b.unit == record.privacy.unit]
        if not guarantee.proven:
            found.append(_line(name, seen_by, "as run", own, guarantee))
            continue
        runs = [b for b in own if b.noise == "as run"]
        found.append(_line(name, seen_by, "as run", runs, guarantee, record.privacy.epsilon(guarantee.observer)))
        for bound in own:
            if bound.noise == "calibrated":
                noise = f"calibrated, × {bound.factor:.3g}"
                noise += "" if bound.part == "everything" else f", {bound.part} alone"
                found.append(_line(name, seen_by, noise, [bound], guarantee, bound.proven))
    return found


def _line(
    name: str,
    who: str,
    noise: str,
    bounds: Sequence[EmpiricalEpsilon],
    guarantee: Guarantee | None,
    proven: float | None = None,
) -> Line:
    claimed = guarantee is not None and guarantee.proven
    delta = bounds[0].delta if bounds else None if guarantee is None or not claimed else _delta(guarantee)
    broken = [b for b in bounds if b.violated]
    top = max(broken or bounds, key=lambda b: b.lower, default=None)
    verdict = "no guarantee" if not claimed else _verdict(bounds)
    note = ""
    if broken and top is not None and top.proven is not None and top.proven != proven:
        note = f"{top.part}: at most {upper_text(top.proven)} proven"
    return Line(
        setting=name,
        observer=who,
        noise=noise,
        proven=f"≤ {upper_text(proven)}" if claimed else "no guarantee",
        delta="" if delta is None else upper_delta(delta),
        relation=guarantee.relation if guarantee is not None and claimed else "",
        shown="not attacked" if top is None else f"≥ {lower_text(top.lower)}",
        ceiling="" if top is None else f"at most {lower_text(max(b.ceiling for b in bounds))}",
        verdict=verdict,
        note=note,
    )


def _delta(guarantee: Guarantee) -> float:
    """At which the printed epsilon holds: that of the client that pays most."""
    return max(guarantee.clients, key=lambda entry: entry.epsilon or 0.0).delta


def _verdict(bounds: Sequence[EmpiricalEpsilon]) -> str:
    if not bounds:
        return "not attacked: sees only what is computed from rows that were"
    found = verdict_of(bounds)
    return "cannot fail: the most that could be shown lies below" if found == "cannot tell" else found


def sentences(records: Sequence[AuditRecord]) -> list[str]:
    """The verdict, and one sentence on each setting."""
    return [f"{headline(records)}.", *(f"{name}: {summary(record)}" for name, record in named(records))]


def summary(record: AuditRecord) -> str:
    """What was proven and what was shown for one setting, in one line."""
    parts = [record.verdict, f"accuracy of the final model {percent(record.final_accuracy)}"]
    if record.privacy is None:
        parts.append("nothing is proven")
    else:
        for guarantee in record.privacy.guarantees:
            value, seen_by = record.privacy.epsilon(guarantee.observer), who(guarantee.observer)
            if value is None:
                parts.append(f"no guarantee against {seen_by}")
                continue
            bound = f"ε ≤ {upper_text(value)} at δ {upper_delta(_delta(guarantee))}"
            parts.append(f"{bound} against {seen_by} ({guarantee.relation})")
    for noise in ("as run", "calibrated"):
        bounds = [b for b in record.empirical if b.noise == noise]
        if bounds:
            top = max(bounds, key=lambda b: b.lower)
            beside = "" if top.proven is None else f" of ≤ {upper_text(top.proven)}"
            told = (
                f"shown with the noise {noise}: ε ≥ {lower_text(top.lower)}{beside}, at most {lower_text(top.ceiling)}"
            )
            parts.append(told)
    best = max(record.membership, key=lambda m: m.auc.value, default=None)
    parts.append(
        "membership: not attacked, the notes say why"
        if best is None
        else f"best membership AUC {best.auc.value:.2f} [{best.auc.low:.2f}, {best.auc.high:.2f}] "
        f"({best.attack}, {best.view})"
    )
    look = guessed(record)
    if look is not None:
        parts.append(
            f"{100 * look.accuracy.value:.0f} % of a client's classes guessed from "
            f"{'the sum of the deviations' if record.parties else 'what the server gets'} (chance "
            f"{100 * look.chance:.0f} %)"
        )
    return "; ".join(parts) + "."
