"""The opening of the report: what was asked, what came out in two sentences with numbers, and what to keep in mind.

Every word of judgement comes from :func:`~.corrected`, so that none is printed which the evidence does
not support after correction for how many comparisons are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autoflip_secure.records.compared import ALGORITHM
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.statistics.paired import Verdict
from autoflip_secure.reports.study import labels, learning, privacy_groups
from autoflip_secure.reports.study.comparisons import Row, Summary
from autoflip_secure.reports.study.labels import capital, percent
from autoflip_secure.reports.study.scoreboard import Block, Standing, scoreboard
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording import falling, key_numbers, levels, places
from autoflip_secure.reports.wording.caveats import caveats_of, weak_points
from autoflip_secure.reports.wording.key_numbers import KeyNumber
from autoflip_secure.reports.wording.phrases import bracket, judgement, short_verdict
from autoflip_secure.terminal.counting import count_of, listed

_SMALL = "Small form of the scenario: "
_OF_SMALL = (
    "This is the scenario's small form (fewer data, rounds or seeds, or a smaller model, as it says itself): its "
    "numbers are not those of the full form."
)
_STRATA = 3  # privacy settings told in sentences, where a sweep over several compares algorithms


@dataclass(frozen=True)
class Opening:
    """The texts of the first screen."""

    headline: str
    question: str  # as the scenario puts it; may be empty
    asked: str  # what was run to answer it
    training: list[str]  # where training failed, and what to do about it; usually nothing
    answer: list[str]  # under attack, without attack, and what privacy costs
    caveats: list[str]
    standings: list[Standing]
    numbers: tuple[KeyNumber, ...] = ()  # three at most, the most important first
    pictures: tuple[str, ...] = ()  # slugs, or their beginnings, of what answers the question, the best first
    about_privacy: list[str] = field(default_factory=list)  # those of ``answer`` that say what privacy costs
    blocks: list[Block] = field(default_factory=list)  # the scoreboard; ``standings`` are all of its lines


def opening(
    study: Study, rows: list[Row], scenario: Mapping[str, Any], missing: int, *, whole: Study | None = None
) -> Opening:
    """Write the first screen of the report.

    Args:
        study: by what the scenario compares (:func:`.by_level`).
        rows: its comparisons.
        scenario: as a document.
        missing: cells that are missing.
        whole: by algorithms, with runs that have no level of what is compared; left out: ``study``.
    """
    whole = study if whole is None else whole
    blocks = scoreboard(study, rows)
    if study.compared == ALGORITHM:
        told = _algorithms(study, blocks, rows)
    else:
        told = (
            levels.headline(study, blocks), levels.answer(study, whole, blocks), levels.numbers(study, blocks),
            levels.pictures(study), levels.caveats(study, rows),
        )  # fmt: skip
    headline, answer, numbers, pictures, weak = told
    private, small = privacy_groups.sentences(whole), scenario.get("form") == "small"
    return Opening(
        headline,
        labels.clean_text(scenario.get("question") or ""),
        keep_units(f"{_SMALL if small else ''}{_asked(whole)}{levels.compared(study)}"),
        [keep_units(found.text) for found in learning.findings(whole)],
        [keep_units(text) for text in (*answer, *private)],
        [keep_units(text) for text in (*caveats_of(whole, weak, rows, missing), *([_OF_SMALL] if small else []))],
        [one for block in blocks for one in block.standings],
        tuple(replace(one, value=keep_units(one.value)) for one in numbers),
        pictures,
        [keep_units(text) for text in private],
        blocks,
    )


def _algorithms(
    study: Study, blocks: list[Block], rows: list[Row]
) -> tuple[str, list[str], tuple[KeyNumber, ...], tuple[str, ...], list[str]]:
    """Headline, answer, numbers, pictures and weak points of a sweep that compares algorithms, a stratum at a time."""
    shown = [block for block in blocks if not block.partial] or blocks
    titles, answer, weak = [], [], []
    for block in shown[:_STRATA]:
        heads = [s for s in block.standings if s.algorithm in study.headline]
        base = next((s for s in block.standings if s.algorithm == study.baseline), None)
        where = f"{block.stratum}: " if block.stratum else ""
        own = [row for row in rows if study.strata.get(row.condition.facet, "") == block.stratum]
        named = len(heads) + (base is not None)  # in the sentences of the answer
        among = places.headline(own, heads[0].algorithm, named) if heads else ""
        titles.append(f"{where}{_headline(study, heads)}{among and f'; {among}'}")
        ranked = places.sentence(own, heads[0].algorithm, named) if heads else ""
        sentences = [*_answer(heads, base), *([ranked] if ranked else [])]
        answer += [f"{where and capital(where)}{text}" for text in sentences]
        weak += [f"{where and capital(where)}{text}" for text in weak_points(study, block.standings)]
    answer[:0] = falling.sentences(study)
    first = [s for s in shown[0].standings if s.algorithm in study.headline]
    pictures = ("degradation-", "paired-differences", "accuracy-by-condition", "convergence")
    return titles[0], answer, key_numbers.of_standings(first, study.baseline), pictures, weak


def keep_units(text: str) -> str:
    """Numbers stay on the line of their unit."""
    return text.replace(" %", "\u00a0%").replace("σ ", "σ\u00a0").replace(" points", "\u00a0points")


def _headline(study: Study, heads: list[Standing]) -> str:
    if study.baseline is None:
        return "Accuracy under malicious clients; no FedAvg in this sweep to compare with"
    if not heads:
        return "FedAvg alone: how it fares when clients are malicious"
    head = heads[0]
    parts = []
    for summary, where in ((head.attacked, "under attack"), (head.clean, "without attack")):
        if summary is not None and summary.against is not None:
            parts.append(f"{_word(summary)} {where}")
    if not parts:
        return f"{head.algorithm}: nothing to compare with {study.baseline} yet"
    if len(parts) == 2 and head.attacked and head.clean and head.attacked.against and head.clean.against:
        same = head.attacked.against.verdict is head.clean.against.verdict
        wider = max(head.attacked, head.clean, key=lambda summary: summary.conditions)
        parts = [f"{_word(wider)} with and without attack"] if same else parts
    return f"{head.algorithm} against {study.baseline}: {', '.join(parts)}"


def _word(summary: Summary) -> str:
    """A mean over conditions is no statement about each of them."""
    assert summary.against is not None
    verdict = summary.against.verdict
    mean = " on average" if summary.conditions > 1 and verdict is not Verdict.CANNOT_TELL else ""
    return f"{short_verdict(verdict)}{mean}"


def _asked(study: Study) -> str:
    attacks = [a for a in study.attacks if a != labels.NO_ATTACK]
    seeds = sorted(set(study.cells["seed"]))
    what = f"{listed(study.algorithms, 8)} were run" if len(study.algorithms) > 1 else f"{study.algorithms[0]} was run"
    kinds = {str((f.get("data") or {}).get("kind", "data")) for f in study.facets.values()}
    data = sorted(labels.kind_words(kind) if ":" in kind else kind for kind in kinds)
    split = {labels.partition_label(f.get("partition") or {}) for f in study.facets.values()}
    among = [", ".join(split)] if len(split) == 1 else []
    settings = [] if list(study.facets) == among else [f"({listed(list(study.facets))})"]
    where = f"on {', '.join([labels.clean_text(', '.join(data)), *among])} {' '.join(settings)}".rstrip()
    under = f"without attack and under {listed(attacks)}" if attacks else "without any attack"
    if attacks and labels.NO_ATTACK not in study.attacks:
        under = f"under {listed(attacks)}"
    text = f"{what} {where}, {under}: {count_of(len(seeds), 'seed')}, {count_of(len(study.cells), 'run')}."
    return f"{capital(text)} {capital(study.measured.removeprefix('test '))} is {study.outcome.words} of a run."


def _answer(heads: list[Standing], base: Standing | None) -> list[str]:
    return [
        sentence
        for name, where in (("attacked", "Under attack"), ("clean", "Without attack"))
        if (sentence := _sentence(heads or [base] if base else heads, base, name, where))
    ]


def _sentence(heads: list[Standing], base: Standing | None, name: str, where: str) -> str:
    parts: list[str] = []
    said: Interval | None = None  # what was last said of the baseline
    for head in heads:
        summary: Summary | None = getattr(head, name)
        if summary is None:
            continue
        over = f", averaged over {summary.conditions} conditions," if summary.conditions > 1 else ""
        lead = f"{where}{over} " if not parts else ""
        text = f"{lead}{head.algorithm} reaches {percent(summary.accuracy.mean)} {bracket(summary.accuracy)}"
        if summary.against and base:
            if summary.reference != said:
                over = f" over {count_of(summary.conditions, 'condition')}" if parts else ""
                text += f"{over} where {base.algorithm} reaches "
                text += f"{percent(summary.reference.mean)} {bracket(summary.reference)}"
                said = summary.reference
            text += f": {judgement(summary.against)}"
        parts.append(text)
    return "; ".join(parts) + "." if parts else ""
