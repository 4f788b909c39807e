"""The verdict of an audit in words, and its table: what is proven, what was shown, what could have been shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from autoflip_secure.records.audit import AuditRecord, EmpiricalEpsilon, LabelInference, verdict_of
from autoflip_secure.records.privacy import Guarantee
from autoflip_secure.records.proven import bound as proven_bound
from autoflip_secure.records.proven import no_guarantee, who
from autoflip_secure.records.rounding import lower_text, upper_delta, upper_text
from autoflip_secure.reports.study.audited import named
from autoflip_secure.reports.study.labels import capital, clean_text, percent
from autoflip_secure.reports.wording.statement import Said, may_say, secret_condition


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
    """The verdict in one sentence, what is worst first: violations, what cannot be told, classes guessed, no guarantee.

    That nobody showed more than is proven comes last, and of those settings alone whose audit could have failed.
    """
    pairs = named(records)
    broken = [(name, b) for name, r in pairs for b in r.empirical if b.violated]
    if broken:
        name, bound = max(broken, key=lambda pair: pair[1].lower - (pair[1].proven or 0.0))
        return (
            f"Violated: an attacker showed epsilon of at least {lower_text(bound.lower)} where at most "
            f"{upper_text(bound.proven)} is claimed ({name})"
        )
    verdicts = [record.verdict for record in records]
    parts = []
    if refuted := [(name, b) for name, r in pairs for b in r.empirical if b.refutes]:
        parts.append(f"{refuted_words(refuted[0][1])} ({refuted[0][0]})")
    if unclear := verdicts.count("cannot tell"):
        parts.append(f"cannot tell{_for(unclear, records)}: no attack could have shown as much as is proven")
    if bare := verdicts.count("no guarantee"):
        every = "nothing is proven for these settings, so there is no guarantee"
        parts.append(every if bare == len(records) else f"no guarantee{_for(bare, records)}")
    half = Counter(no_guarantee([r.privacy]) for r in records if r.verdict != "no guarantee" and r.privacy)
    parts += [f"{words}{_for(count, records)}" for words, count in half.items() if words]
    looks = [look for record in records if (look := guessed(record)) is not None]
    worst = max(looks, key=lambda look: look.accuracy.value - look.chance, default=None)
    if worst is not None and worst.accuracy.low > worst.chance:
        share, chance = (f"{100 * value:.0f} %" for value in (worst.accuracy.value, worst.chance))
        parts.append(f"up to {share} of a client's classes guessed (chance {chance})")
    if held := verdicts.count("holds"):
        parts.append(f"no attacker showed more than is proven{_for(held, records)}")
    return capital("; ".join(parts))


def refuted_words(bound: EmpiricalEpsilon) -> str:
    """An attack that showed more than a mechanism claims of itself without a proof."""
    assert bound.claimed is not None
    of = "two sets of weights that a client could send" if bound.unit == "client" else "one sample"
    return (
        f"refuted: ε {upper_text(bound.claimed)} was claimed and not proven, and an attacker showed at least "
        f"{lower_text(bound.lower)} for {of}"
    )


def _for(count: int, records: Sequence[AuditRecord]) -> str:
    """Of how many settings something is said, where it is not all of them."""
    return "" if count == len(records) else f" for {count} of {len(records)} settings"


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
    note = refuted_words(top) if top is not None and top.refutes else ""
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
        ceiling="" if top is None else f"at most {ceiling_text(bounds)}",
        verdict=verdict,
        note=note,
    )


def ceiling_text(bounds: Sequence[EmpiricalEpsilon]) -> str:
    """What could have been shown; rounded away from what is proven, so that the two compare as the numbers do."""
    top = max(bounds, key=lambda bound: bound.ceiling)
    return upper_text(top.ceiling) if top.can_fail else lower_text(top.ceiling)


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
    if (claimed := None if record.privacy is None else record.privacy.claimed) is not None:
        parts.append(
            f"claimed and not proven: ε {upper_text(claimed.epsilon)} at δ {upper_delta(claimed.delta)} for one sample"
        )
        parts += [refuted_words(bound) for bound in record.empirical if bound.refutes]
    for noise in ("as run", "calibrated"):
        bounds = [b for b in record.empirical if b.noise == noise]
        if bounds:
            top = max(bounds, key=lambda b: b.lower)
            beside = "" if top.proven is None else f" of ≤ {upper_text(top.proven)}"
            told = f"shown with the noise {noise}: ε ≥ {lower_text(top.lower)}{beside}, at most {ceiling_text([top])}"
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


def said(records: Sequence[AuditRecord]) -> list[Said]:
    """What may be said of each setting after its audit, for who signs it."""
    return [_said(name, record, guarantee) for name, record in named(records) for guarantee in _asked(record)]


def _asked(record: AuditRecord) -> Sequence[Guarantee | None]:
    return [None] if record.privacy is None else record.privacy.guarantees


def _said(name: str, record: AuditRecord, guarantee: Guarantee | None) -> Said:
    observer = "anybody" if guarantee is None else who(guarantee.observer)
    found = None if guarantee is None else proven_bound(guarantee)
    if guarantee is None or found is None:
        why = "nobody adds noise" if guarantee is None else clean_text(guarantee.reason) or "no bound is finite"
        return Said(observer, f"Nothing may be promised: no guarantee ({why}).", "nobody", subject=name)
    own = [b for b in record.empirical if b.observer == guarantee.observer and b.proven is not None]
    if any(bound.violated for bound in own):
        words = "Nothing may be promised: the audit refutes what is claimed."
        return Said(observer, words, "nobody", relation=found.relation, subject=name)
    tested = {
        "holds": "Attackers who could have shown more did not.",
        "cannot tell": "The audit could not have refuted it: do not call it audited.",
    }.get(verdict_of(own), "This observer was not attacked: do not call it audited against this one.")
    unit = record.privacy.unit if record.privacy is not None else "client"
    condition = secret_condition(guarantee)
    return Said(
        observer=observer,
        words=f"{may_say(found, unit)} {tested}",
        to="the clients; anybody who is given a model" if guarantee.observer == "public" else "the clients",
        epsilon=f"≤ {upper_text(found.epsilon)}",
        delta=upper_delta(found.delta),
        relation=found.relation,
        condition=f"{condition[0].upper()}{condition[1:]}." if condition else "",
        subject=name,
    )
