"""The first screen of a sweep that compares something else than algorithms: levels of privacy, secure sums, any axis.

A sentence speaks of one stratum (one algorithm, one setting): its means are over conditions that all levels have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from autoflip_secure.records.compared import ALGORITHM, ATTACK, PRIVACY, SECURE_SUM
from autoflip_secure.reports.statistics.paired import Paired, Verdict
from autoflip_secure.reports.study.comparisons import Row, Summary, summarise
from autoflip_secure.reports.study.labels import capital, percent, setting
from autoflip_secure.reports.study.levels import against_words, factor_words, outside
from autoflip_secure.reports.study.scoreboard import Block, Standing
from autoflip_secure.reports.study.study import HEADLINE, Study
from autoflip_secure.reports.wording.key_numbers import MOST, KeyNumber, difference
from autoflip_secure.reports.wording.phrases import bracket, judgement, short_verdict
from autoflip_secure.terminal.counting import count_of

_STRATA = 2  # told in the headline and in sentences; the scoreboard has all
_LEVELS = 3  # told in a sentence; of more the reference, the first and the last
_KINDS = (("clean", "without attack"), ("attacked", "under attack"))


def heads(study: Study, blocks: Sequence[Block]) -> list[Block]:
    """Blocks that the headline speaks about: of the algorithm with the most levels, AutoFLIP before others."""
    full = [b for b in blocks if len(b.standings) > 1 and any(_against(s) for s in b.standings)]
    if not full:
        return []
    family = {study.strata[row.facet]: row.family for row, _ in study.rows}
    order = [*HEADLINE, *dict.fromkeys(family.values())]

    def rank(block: Block) -> tuple[int, int]:
        return -len(block.standings), order.index(family[block.stratum])

    best = min(map(rank, full))
    return [block for block in full if rank(block) == best][:_STRATA]


def compared(study: Study) -> str:
    """What is compared with what, behind what was run; nothing where it is algorithms."""
    if study.compared == ALGORITHM:
        return ""
    return (
        f" Compared: {factor_words(study.compared)}, each level with {against_words(study)} of the same algorithm, "
        "setting, attack and seed."
    )


def headline(study: Study, blocks: Sequence[Block]) -> str:
    """What the levels do to accuracy, against the reference."""
    factor = factor_words(study.compared)
    chosen = heads(study, blocks)
    if not chosen:
        return f"{capital(factor)}: no level can be compared with {study.baseline} yet"
    against = (
        "once"
        if study.compared == "exploration.every"
        else (
            "none"
            if study.compared in (PRIVACY, SECURE_SUM, ATTACK)
            else str(study.baseline).removeprefix(f"{factor} ")
        )
    )
    parts = []
    for block in chosen:
        said = [text for kind, where in _KINDS if (text := _verdicts(block, kind, _where(study, where)))]
        alike = {text.removesuffix(f" {where}") for text, (_, where) in zip(said, _KINDS, strict=False)}
        if len(said) == 2 and len(alike) == 1:
            said = [f"{alike.pop()} with and without attack"]
        who = f"{block.stratum}: " if block.stratum else ""
        parts.append(f"{who}{', '.join(said)}")
    lead = f"{capital(factor)} against {against}"
    return f"{lead}, {parts[0]}" if len(parts) == 1 and chosen[0].stratum else f"{lead}: {'; '.join(parts)}"


def _verdicts(block: Block, kind: str, where: str) -> str:
    """``worse at 3 of 4 levels under attack``; nothing where nothing was compared."""
    found = [s for one in block.standings if (s := _summary(one, kind)) is not None and s.against is not None]
    if not found:
        return ""
    words = Counter(short_verdict(s.against.verdict) for s in found if s.against)
    told = Verdict.CANNOT_TELL.value
    if len(found) == 1:
        word = next(iter(words))
        mean = " on average" if found[0].conditions > 1 and word != told else ""
        return f"{word}{mean} {where}".rstrip()
    if words == {told: len(found)}:
        return f"{told} at any of {len(found)} levels {where}".rstrip()
    parts = [f"{word} at {_part(n, len(found))}" for word, n in words.items() if word != told]
    mean = " on average" if any(s.conditions > 1 for s in found) else ""
    return f"{' and '.join(parts)} levels{mean} {where}".rstrip()


def _part(number: int, of: int) -> str:
    """``all 4``, ``both``, ``3 of 4``."""
    return f"{number} of {of}" if number < of else "both" if of == 2 else f"all {of}"


def answer(study: Study, whole: Study, blocks: Sequence[Block]) -> list[str]:
    """Accuracy at every level and its difference to the reference, what it costs, and what has no level."""
    chosen = heads(study, blocks)
    told = [s for b in chosen for kind, where in _KINDS if (s := _levels(study, b, kind, _where(study, where)))]
    told += [text for block in chosen if (text := _costs(study, block))]
    told += _detection(study, chosen)
    more = len({b.stratum for b in blocks}) - len({b.stratum for b in chosen})
    if chosen and more:
        told.append(f"The table has {count_of(more, 'setting')} more, each compared within itself.")
    return [*told, *_without_level(study, whole)]


def _levels(study: Study, block: Block, kind: str, where: str) -> str:
    """One sentence: the reference, then each level with its difference."""
    found = [(one.algorithm, s) for one in block.standings if (s := _summary(one, kind)) is not None]
    if not found:
        return ""
    conditions = max(s.conditions for _, s in found)
    mean = f"mean over the {conditions} conditions that all levels have" if conditions > 1 else ""
    lead = ", ".join(part for part in (block.stratum, where, mean) if part)
    parts = []
    shown = found if len(found) <= _LEVELS else [found[0], found[1], found[-1]]
    for level, summary in shown:
        text = f"{level} reaches {percent(summary.accuracy.mean)} {bracket(summary.accuracy)}"
        if summary.conditions < conditions:
            text += f" over {summary.conditions}"
        parts.append(f"{text}: {judgement(summary.against)}" if summary.against else text)
    return f"{capital(lead)}: {'; '.join(parts)}." if lead else f"{'; '.join(parts)}."


def _costs(study: Study, block: Block) -> str:
    """Bytes and operations of the last level, as a share of the reference's; nothing where they are the same."""
    last = block.standings[-1]
    if last.uplink is None or last.algorithm == study.baseline:
        return ""
    shares = [("of the bytes that clients send", last.uplink)]
    if "sparse" in last.flops:
        shares.append(("of the operations on live weights", last.flops["sparse"]))
    told = [f"{100 * share:.0f} % {what}" for what, share in shares if abs(share - 1) >= 0.005]
    who = f"{block.stratum}, " if block.stratum else ""
    return f"{capital(who)}{last.algorithm} takes {' and '.join(told)} of {against_words(study)}." if told else ""


def _detection(study: Study, blocks: Sequence[Block]) -> list[str]:
    """How well scores find malicious clients at each level, where clients are scored."""
    told = []
    for block in blocks:
        facets = {facet for facet, stratum in study.strata.items() if stratum == block.stratum}
        found: dict[str, dict[tuple[str, str, int], float]] = {}
        for row, record in study.rows:
            if row.facet in facets and record.detection_auc is not None:
                found.setdefault(row.algorithm, {})[row.facet, row.attack, row.seed] = record.detection_auc
        shown = [one.algorithm for one in block.standings if one.algorithm in found]
        alike = set.intersection(*(set(found[level]) for level in shown)) if len(shown) > 1 else set()
        if alike:
            parts = [f"{level} {fmean(found[level][run] for run in alike):.2f}" for level in shown]
            who = f", {block.stratum}" if block.stratum else ""
            told.append(
                f"How well scores tell malicious clients from honest ones{who} (area under the ROC curve, mean over "
                f"{count_of(len(alike), 'run')} that all of these have, 0.5 is guessing): {', '.join(parts)}."
            )
    return told


def _without_level(study: Study, whole: Study) -> list[str]:
    """Where the baseline of the algorithms stands, if what is compared does not concern it."""
    base = whole.baseline
    if base is None or base not in outside(whole, study):
        return []
    parts = []
    for clean, where in ((True, "without attack"), (False, "under attack")):
        conditions = [c for c in whole.conditions if (whole.attacks[c.attack]["kind"] == "none") is clean]
        summary = summarise(whole, base, conditions, base)
        if summary is not None:
            over = f" over {summary.conditions} conditions" if summary.conditions > 1 else ""
            parts.append(f"{percent(summary.accuracy.mean)} {bracket(summary.accuracy)} {where}{over}")
    lacks = "explores nothing" if study.compared == "exploration.every" else f"has no {setting(study.compared)}"
    return [f"{base}, which {lacks}, reaches {' and '.join(parts)}."] if parts else []


def numbers(study: Study, blocks: Sequence[Block]) -> tuple[KeyNumber, ...]:
    """The strongest level, then the weakest or what it costs."""
    chosen = heads(study, blocks)
    if not chosen:
        return ()
    found = []
    for block in chosen:
        levels = [one for one in block.standings if _against(one)]
        last, first = levels[-1], levels[0]
        asked = [
            (last, "clean"),
            (last, "attacked"),
            *([(first, "clean"), (first, "attacked")] if first != last else []),
        ]
        for one, kind in asked[: 2 if len(chosen) > 1 else None]:
            summary = _summary(one, kind)
            if summary is not None and summary.against is not None:
                where = _where(study, dict(_KINDS)[kind])
                label = ", ".join(
                    part for part in (block.stratum, f"{one.algorithm} against {against_words(study)}", where) if part
                )
                found.append(difference(label, summary.against, summary.conditions))
        if study.compared != PRIVACY and last.uplink is not None and abs(last.uplink - 1) >= 0.005:
            label = f"Bytes that clients send, {last.algorithm}"
            found.insert(
                min(2, len(found)), KeyNumber(label, f"{100 * last.uplink:.0f} %", note=f"of {against_words(study)}")
            )
    return tuple(found[:MOST])


def pictures(study: Study) -> tuple[str, ...]:
    """Slugs of what answers the question, the best first; one that ends with a dash is the start of several."""
    path = study.compared
    own = {PRIVACY: ("privacy-utility",), SECURE_SUM: (), ATTACK: ("degradation-",)}.get(
        path, (f"sensitivity-{path.replace('.', '-').replace('_', '-')}",)
    )
    return (*own, "paired-differences", "accuracy-by-condition", "convergence")


def caveats(study: Study, rows: Sequence[Row]) -> list[str]:
    """How many differences are told, of which words, and the worst place."""
    pairs = [row for row in rows if row.against is not None]
    lonely = [row for row in rows if row.against is None and row.algorithm != study.baseline]
    found = []
    if pairs:
        words = Counter(row.against.verdict for row in pairs if row.against)
        told = ", ".join(f"{short_verdict(v)} in {words[v]}" for v in Verdict if words[v])
        weakest = min(pairs, key=lambda r: r.against.difference.mean if r.against else 0.0)
        assert weakest.against is not None
        found.append(
            f"{capital(factor_words(study.compared))}, each level against {against_words(study)} with the same "
            f"algorithm, setting and attack, {count_of(len(pairs), 'comparison')}: {told}. The lowest: "
            f"{weakest.algorithm}, {weakest.condition}, {judgement(weakest.against)}."
        )
    if lonely:
        found.append(
            f"In {count_of(len(lonely), 'condition')} {study.baseline} was not run with the same algorithm and "
            "setting: accuracies stand there without a difference, and are in no mean that is compared."
        )
    return found


def _where(study: Study, where: str) -> str:
    return "" if study.compared == ATTACK else where


def _summary(one: Standing, kind: str) -> Summary | None:
    found: Summary | None = getattr(one, kind)
    return found


def _against(one: Standing) -> list[Paired]:
    return [s.against for s in (one.clean, one.attacked) if s is not None and s.against is not None]
