"""The first screen of a sweep that compares several things: what each does, and how they depend on each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from autoflip_secure.records.compared import ATTACK, SECURE_SUM
from autoflip_secure.reports.statistics.paired import Verdict
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.contrasts import Effect, Effects
from autoflip_secure.reports.study.labels import capital
from autoflip_secure.reports.study.levels import by_level
from autoflip_secure.reports.study.scoreboard import scoreboard
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.key_numbers import MOST, KeyNumber, difference
from autoflip_secure.reports.wording.phrases import judgement, short_verdict
from autoflip_secure.terminal.counting import count_of, listed

PICTURES = ("effects", "interactions", "paired-differences", "accuracy-by-condition")
_TOLD = 4  # effects of one factor, or interactions, in a sentence
_DIRECTIONS = (Verdict.BETTER, Verdict.WORSE)


def headline(found: Effects) -> str:
    """Which factors have an effect that the seeds support, and which have none."""
    shown, equal, silent = [], [], []
    for factor in _asked(found):
        words = Counter(e.against.verdict for e in _of(found, factor))
        every = sum(words.values())
        told = [f"{short_verdict(v)} in {_part(words[v], every)}" for v in _DIRECTIONS if words[v]]
        if told:
            shown.append(f"{factor} {' and '.join(told)}")
        elif words[Verdict.EQUAL] == every:
            equal.append(f"{factor} equal in {_part(every, every)}")
        else:
            silent.append(factor)
    parts = [*shown, *equal, *([f"no effect of {listed(silent)} that these seeds can show"] if silent else [])]
    return capital("; ".join(parts))


def answer(study: Study, found: Effects) -> list[str]:
    """A sentence per factor, one on interactions, and what secure sums cost."""
    told = [_factor(factor, _of(found, factor)) for factor in _asked(found)]
    return [*told, *_interactions(found.interactions), *_bytes(study)]


def _factor(factor: str, own: Sequence[Effect]) -> str:
    supported = sorted((e for e in own if e.against.verdict in _DIRECTIONS), key=_size, reverse=True)
    several = len({e.level for e in own}) > 1
    what = "" if several else f" ({own[0].level} against {own[0].reference})"
    lead = f"{capital(factor)}{what}"
    parts = [f"{_place(e, several)}{judgement(e.against)}" for e in supported[:_TOLD]]
    parts += [f"and {len(supported) - _TOLD} more"] if len(supported) > _TOLD else []
    words = Counter(e.against.verdict for e in own)
    rest = [f"{short_verdict(v)} in {words[v]}" for v in (Verdict.EQUAL, Verdict.CANNOT_TELL) if words[v]]
    largest = max(own, key=_size)
    every = _part(len(own), len(own))
    if words[Verdict.EQUAL] == len(own):
        return f"{lead}: equal in {every}; the largest mean, {_place(largest, several)}{judgement(largest.against)}."
    if not supported:
        return (
            f"{lead}: no direction is supported in {count_of(len(own), 'case')} ({', '.join(rest)}). The largest mean, "
            f"{_place(largest, several)}{judgement(largest.against)}."
        )
    tail = f"; of {count_of(len(own), 'case')} {', '.join(rest)}" if rest else ""
    return f"{lead}: {'; '.join(parts)}{tail}."


def _interactions(every: Sequence[Effect]) -> list[str]:
    if not every:
        return []
    supported = sorted((e for e in every if e.against.verdict in _DIRECTIONS), key=_size, reverse=True)
    if not supported:
        equal = sum(e.against.verdict is Verdict.EQUAL for e in every)
        none = f"none of {count_of(len(every), 'interaction')} is supported"
        return [f"How they depend on each other: {none}; {equal} are zero within the margin, the others open."]
    parts = [f"{e.name} ({e.where}): {judgement(e.against)}" for e in supported[:_TOLD]]
    parts += [f"and {len(supported) - _TOLD} more"] if len(supported) > _TOLD else []
    return [
        f"How they depend on each other, {len(supported)} of {count_of(len(every), 'interaction')} supported (better: "
        f"the one does more for accuracy where the other is): {'; '.join(parts)}."
    ]


def _bytes(study: Study) -> list[str]:
    """What clients send through parties, as a share of the same runs in the open."""
    sums = by_level(study, SECURE_SUM)
    if sums is None:
        return []
    shares = [
        one.uplink for block in scoreboard(sums, compare(sums)) for one in block.standings
        if one.uplink is not None and one.algorithm != sums.baseline
    ]  # fmt: skip
    if not shares:
        return []
    low, high = (f"{share:.1f}" for share in (min(shares), max(shares)))
    times = low if low == high else f"{low} to {high}"
    return [f"Through parties clients send {times} times the bytes of the same runs in the open."]


def numbers(found: Effects) -> tuple[KeyNumber, ...]:
    """The largest supported effect of each factor; where fewer than three have one, the largest of the others."""
    best = []
    for factor in _asked(found):
        own = _of(found, factor)
        best.append(max(own, key=lambda e: (e.against.verdict in _DIRECTIONS, _size(e))))
    chosen = sorted(best, key=lambda e: (e.against.verdict not in _DIRECTIONS, -_size(e)))[:MOST]
    return tuple(
        difference(
            ", ".join(p for p in (f"{e.factor}: {e.level} against {e.reference}", e.where) if p), e.against, e.pairs
        )
        for e in chosen
    )


def caveats(found: Effects) -> list[str]:
    """What an effect is, and what it is corrected for."""
    mains, pairs = len(found.mains), len(found.interactions)
    return [
        "Effects are paired by seed and averaged over the levels of the other factors, splits and settings that both "
        f"sides have, never over attacks or settings of privacy. {mains} effects and {pairs} interactions are two "
        "families, corrected (Holm) each for itself."
    ]


def _asked(found: Effects) -> list[str]:
    """Factors in their order; what attacks do is told by the others."""
    return [factor for factor in found.factors if factor != ATTACK and _of(found, factor)]


def _of(found: Effects, factor: str) -> list[Effect]:
    return [e for e in found.mains if e.factor == factor]


def _size(effect: Effect) -> float:
    return abs(effect.against.difference.mean)


def _place(effect: Effect, several: bool) -> str:
    level = f"{effect.level} against {effect.reference}, " if several else ""
    return f"{level}{effect.where}".removesuffix(", ") + ": " if level or effect.where else ""


def _part(number: int, of: int) -> str:
    return f"{number} of {of} cases" if number < of else f"all {of} cases" if of > 1 else "the one case"
