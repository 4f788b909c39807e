"""What a claim came to, in words: verdicts, what they are about, and the sentence that opens the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoflip_secure.records.configs import leaves
from autoflip_secure.reports.claims.findings import ALONE, Answer, Claim, Evidence
from autoflip_secure.reports.claims.portfolio import AnsweredClaim, Unit
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.labels import clean_text, number
from autoflip_secure.reports.study.study import Study
from autoflip_secure.terminal.counting import count_of, listed

VERDICTS = {
    Answer.HOLDS: "supported",
    Answer.DOES_NOT_HOLD: "refuted",
    Answer.CANNOT_TELL: "inconclusive",
    Answer.NOT_TESTED: "not tested here",
}


def verdict(tested: AnsweredClaim) -> str:
    """The word, and for what is open the number of seeds that would settle it."""
    word = f"{VERDICTS[tested.claim.answer]}{ALONE if tested.claim.lost else ''}"
    if tested.claim.answer is not Answer.CANNOT_TELL:
        return word
    seeds = seeds_needed(tested)
    return (
        f"{word}: about {seeds} seeds would settle it" if seeds else f"{word}: no number of seeds found that settles it"
    )


def seeds_needed(tested: AnsweredClaim) -> int | None:
    """The most that any open place needs; None: unknown for one of them, or nothing is open."""
    needed = [e.seeds_needed for e in tested.claim.evidence if e.answer is Answer.CANNOT_TELL]
    return max((n for n in needed if n is not None), default=None) if needed and None not in needed else None


def effect(found: Evidence | None, unit: Unit) -> str:
    """The effect at one place with its interval, and with the wider one that holds for all places of the claim."""
    if found is None:
        return ""
    own, wider = found.interval, found.simultaneous or found.interval
    both = f", all places together {_ends(wider, unit)}" if wider.low is not None and wider != own else ""
    return f"{_signed(own.mean, unit)} {unit.name} {_ends(own, unit)}{both}"


def _ends(interval: Interval, unit: Unit) -> str:
    if interval.low is None or interval.high is None:
        return f"[no interval: {interval.reason}]"
    return f"[{_signed(interval.low, unit)}, {_signed(interval.high, unit)}]"


def _signed(value: float, unit: Unit) -> str:
    """With its sign; no minus before what rounds to zero."""
    return f"{round(unit.scale * value, unit.digits) + 0.0:+.{unit.digits}f}".replace("-", "−")


def headline(tested: Sequence[AnsweredClaim]) -> str:
    """How many claims got which verdict."""
    answers = [one.claim.answer for one in tested]
    told = [f"{answers.count(answer)} {word}" for answer, word in VERDICTS.items() if answer in answers]
    return f"Of {count_of(len(tested), 'claim')}: {listed(told)}."


def opening(tested: Sequence[AnsweredClaim]) -> list[str]:
    """What the page opens with: the claim that would refute the paper, then what is refuted and what is supported."""
    said = []
    first = next((one for one in tested if one.asked.key == "falsifier"), None)
    if first is not None:
        where = first.deciding
        told = f" ({where.where}: {where.text})" if where is not None else f" ({first.claim.needs})"
        said.append(
            "Pruning by the initial map keeps the accuracy of the unpruned model, the claim whose failure would refute "
            f"the paper: {verdict(first)}{told}."
        )
    for answer in (Answer.DOES_NOT_HOLD, Answer.HOLDS, Answer.CANNOT_TELL):
        found = [one for one in tested if one.claim.answer is answer and one is not first]
        if found:
            names = "; ".join(f"{one.asked.short}{ALONE if one.claim.lost else ''}" for one in found)
            said.append(f"{VERDICTS[answer].capitalize()} ({len(found)}): {names}.")
    gone = lost([one.claim for one in tested])
    return [*said, gone] if gone else said


def lost(claims: Sequence[Claim]) -> str:
    """How many answers correction for all tested claims takes away, as a sentence; "": none."""
    tested, gone = (sum(map(bool, found)) for found in ([c.evidence for c in claims], [c.lost for c in claims]))
    if not gone:
        return ""
    does, say = ("One answer does", "is hollow and says") if gone == 1 else (f"{gone} answers do", "are hollow and say")
    return f"{does} not survive correction for the {tested} claims that were tested (Holm), and {say} “judged alone”."


def line(one: AnsweredClaim) -> tuple[str, str]:
    """Verdict, and a line for the terminal."""
    word = verdict(one)
    where = one.deciding
    told = f", {where.where}: {effect(where, one.asked.unit)}" if where is not None else ""
    return word, f"{one.asked.key}: {word}{told}"


def conditions(study: Study) -> str:
    """What the answers of a scenario are about: data, model, clients, training, seeds."""
    config: dict[str, Any] = study.records[0].config
    seeds = sorted({record.seed for record in study.records})
    parts = [leaves(config.get(key) or {}) for key in ("data", "model", "training")]
    data, model, training = ({k: v for k, v in part.items() if v is not None} for part in parts)
    hidden = f" {number(model['hidden'])}" if "hidden" in model else ""
    words = [
        clean_text(data.get("kind", "data")),
        f"{clean_text(model.get('kind', 'model'))}{hidden}",
        f"{count_of(int(config.get('clients', 0)), 'client')}, {config.get('cohort')} a round",
        count_of(int(config.get("rounds", 0)), "round"),
        f"{str(training.get('optimizer', 'sgd')).upper()} at {number(training.get('lr', 0))}, "
        f"{count_of(int(training.get('epochs', 1)), 'local epoch')}",
        f"{count_of(len(seeds), 'seed')} ({seeds[0]} to {seeds[-1]})" if len(seeds) > 1 else f"seed {seeds[0]}",
        f"accuracy: {study.outcome.words}",
    ]
    tuned = any(record.tuning is not None for record in study.records)
    return "; ".join([*words, *(["each algorithm with its own tuned settings"] if tuned else [])])
