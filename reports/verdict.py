"""The opening of the report: what was asked, what came out in two sentences with numbers, and what to keep in mind.

Every word of judgement comes from :func:`reports.correction.corrected`, so that none is printed which the evidence does
not support after correction for how many comparisons are looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports import labels, learning, privacy_caveats, privacy_groups, test_set
from reports.comparisons import Row, Standing, Summary, standings
from reports.statistics import MARGIN, Interval, Paired, Verdict
from reports.study import Study

OUR_READING = (
    "AutoFLIP here is our reading of the paper (arXiv 2405.10271): its full text, and code with agreement scoring, are "
    "not public. What the paper leaves open is a named choice in the configuration below."
)


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


def opening(study: Study, rows: list[Row], scenario: Mapping[str, Any], missing: int) -> Opening:
    """Write the first screen of the report."""
    table = standings(study, rows)
    heads = [s for s in table if s.algorithm in study.headline]
    base = next((s for s in table if s.algorithm == study.baseline), None)
    caveats = [_bound(text) for text in _caveats(study, table, rows, missing)]
    answer = [_bound(text) for text in (*_answer(heads, base), *privacy_groups.sentences(study))]
    return Opening(
        _headline(study, heads),
        labels.clean_text(scenario.get("question") or ""),
        _bound(_asked(study)),
        [_bound(found.text) for found in learning.findings(study)],
        answer,
        caveats,
        table,
    )


def _bound(text: str) -> str:
    """Numbers stay on the line of their unit."""
    return text.replace(" %", "\u00a0%").replace("σ ", "σ\u00a0").replace(" points", "\u00a0points")


def percent(value: float) -> str:
    """A share as per cent with one digit."""
    return f"{100 * value:.1f} %"


def points(value: float, like: float | None = None) -> str:
    """A difference of shares in points, signed; with a second digit when ``like`` (or itself) is under a point."""
    digits = 2 if abs(value if like is None else like) < 0.00995 else 1
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def bracket(interval: Interval, *, signed: bool = False) -> str:
    """The 95 % interval in brackets; says so when there is none."""
    if interval.low is None or interval.high is None:
        return f"[no interval: {interval.reason}]"
    if signed:
        return f"[{points(interval.low, interval.mean)}, {points(interval.high, interval.mean)}]"
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _headline(study: Study, heads: list[Standing]) -> str:
    if study.baseline is None:
        return "Accuracy under bad clients; no FedAvg in this sweep to compare with"
    if not heads:
        return "FedAvg alone: how it fares when clients are bad"
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
    return f"{_short(verdict)}{mean}"


def _asked(study: Study) -> str:
    attacks = [a for a in study.attacks if a != labels.NO_ATTACK]
    seeds = sorted(set(study.cells["seed"]))
    what = f"{_list(study.algorithms, 8)} were run" if len(study.algorithms) > 1 else f"{study.algorithms[0]} was run"
    data = sorted({str((f.get("data") or {}).get("kind", "data")) for f in study.facets.values()})
    split = {labels.partition_label(f.get("partition") or {}) for f in study.facets.values()}
    among = [", ".join(split)] if len(split) == 1 else []
    settings = [] if list(study.facets) == among else [f"({_list(list(study.facets))})"]
    where = f"on {', '.join([labels.clean_text(', '.join(data)), *among])} {' '.join(settings)}".rstrip()
    under = f"without attack and under {_list(attacks)}" if attacks else "without any attack"
    if attacks and labels.NO_ATTACK not in study.attacks:
        under = f"under {_list(attacks)}"
    text = f"{what} {where}, {under}: {_count(len(seeds), 'seed')}, {_count(len(study.cells), 'run')}."
    return f"{_capital(text)} Accuracy is {study.outcome.words} of a run."


def _list(items: list[str], most: int = 6) -> str:
    items = items if len(items) <= most else [*items[: most - 1], f"{len(items) - most + 1} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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
                over = f" over {_count(summary.conditions, 'condition')}" if parts else ""
                text += f"{over} where {base.algorithm} reaches "
                text += f"{percent(summary.reference.mean)} {bracket(summary.reference)}"
                said = summary.reference
            text += f": {judgement(summary.against)}"
        parts.append(text)
    return "; ".join(parts) + "." if parts else ""


def judgement(pair: Paired) -> str:
    """A paired difference in words: the direction only if the evidence supports it, corrected for its family."""
    difference = pair.difference
    size = f"{abs(100 * difference.mean):.{2 if abs(difference.mean) < 0.00995 else 1}f} points"
    interval = bracket(difference, signed=True)
    if pair.verdict is Verdict.BETTER:
        return f"better by {size} {interval}"
    if pair.verdict is Verdict.WORSE:
        return f"worse by {size} {interval}"
    if pair.verdict is Verdict.EQUAL:
        return f"equal within {100 * MARGIN:g} points, difference {points(difference.mean)} {interval}"
    more = f", about {pair.seeds_needed} seeds would settle it" if pair.seeds_needed else ""
    among = f" once corrected for {pair.family} comparisons" if pair.lost else ""
    return f"cannot tell{among}, difference {points(difference.mean)} {interval}{more}"


def _caveats(study: Study, table: list[Standing], rows: list[Row], missing: int) -> list[str]:
    found = []
    if missing:
        done = len(study.cells)
        found.append(
            f"Incomplete: {missing} of {done + missing} cells are missing; the rest covers the {done} that are done."
        )
    found += privacy_caveats.caveats(study)
    found += _weak_points(study, table)
    counts = study.cells.groupby(["facet", "attack", "algorithm"])["seed"].nunique()
    fewest, most = int(counts.min()), int(counts.max())
    seeds = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    text = f"{seeds} seed{'s' if most != 1 else ''} per cell. "
    if most == 1:
        text += "One seed gives no interval: nothing here says how much another seed would change."
    else:
        text += (
            "Intervals are 95 % t intervals over seeds, differences are paired by seed. Words are corrected for how "
            "many comparisons stand beside each other (Holm), intervals are not: one that leaves zero outside by "
            "little may be a “cannot tell”."
        )
        if fewest != most:
            text += (
                " Where algorithms or conditions have different seeds, a difference uses the seeds that both have and "
                "a mean over conditions those that every condition has; n says how many."
            )
        if fewest == 1:
            text += " A condition with one seed has no interval."
        floor = 2 / 2**most
        if floor > 0.05:
            text += (
                f" With {most} seeds Wilcoxon's test cannot go below p = {floor:.2g}, so it alone can prove nothing."
            )
    found.append(text)
    found += [*_other_samples(rows), *_windows(study)]
    found.append("The attacks are fixed ones: none of them adapts to the defence it meets.")
    if any(f.startswith("autoflip") for f in study.families.values()):
        found.append(OUR_READING)
    found += _events(study)
    return found


def _other_samples(rows: list[Row]) -> list[str]:
    """What intervals over seeds leave out, since all seeds are tested on the same samples."""
    known = [row for row in rows if row.samples is not None]
    if not known:
        return []
    sizes = sorted({row.samples for row in known if row.samples is not None})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    most = max(test_set.error(row.accuracy.mean, row.samples or 1) for row in known)
    text = (
        f"All seeds share one test set of {size} samples, so intervals over seeds say nothing of other samples: those "
        f"could move an accuracy here by up to ± {100 * test_set.NORMAL * most:.1f} points (95 %, binomial), however "
        "many seeds there are; the statistics table has an interval of every accuracy that counts it."
    )
    pairs = [
        test_set.error_of_difference(row.accuracy.mean, row.accuracy.mean - row.against.difference.mean, row.samples)
        for row in known
        if row.against is not None and row.samples is not None
    ]
    if pairs:
        text += (
            f" Differences are taken on the same samples: other ones could move them by ± "
            f"{100 * test_set.NORMAL * max(pairs):.1f} points at the very most, by far less where two algorithms fail "
            "on the same samples. How often they do is not recorded, so no word counts it: words are about this test "
            "set."
        )
    return [text]


def _windows(study: Study) -> list[str]:
    """Runs in which the attack begins or ends among the evaluations that are averaged."""
    mixed = 0
    for record in study.records:
        window = (record.config.get("attack") or {}).get("window") or {}
        first, last = window.get("first") or 1, window.get("last") or math.inf
        mixed += len({first <= entry.round <= last for entry in study.outcome.counted(record)}) > 1
    if not mixed:
        return []
    return [
        f"In {_count(mixed, 'run')} the attack begins or ends among the evaluations that are averaged: accuracy there "
        "is in part that of rounds without attack. `outcome: last` has the last one alone."
    ]


def _weak_points(study: Study, table: list[Standing]) -> list[str]:
    found = []
    for head in table:
        weakest = head.weakest
        if head.algorithm not in study.headline or weakest is None or weakest.against is None:
            continue
        total = sum(head.tally.values())
        text = f"{head.algorithm} "
        if total:
            counted = [f"{_short(v)} in {n}" for v, n in head.tally.items() if n]
            text += f"against {study.baseline}, {_count(total, 'attacked condition')}: {', '.join(counted)}. It "
        text += f"stands worst under {weakest.condition}: {judgement(weakest.against)}."
        found.append(text)
    return found


def _short(verdict: Verdict) -> str:
    return "equal" if verdict is Verdict.EQUAL else verdict.value


def _why(study: Study) -> str:
    """Why updates were rejected, by what the runs that rejected some can find fault with."""
    reasons = {"not finite": None}
    for record in study.records:
        parties = record.config.get("secure_sum") or {}
        if parties.get("updates") and any(e.rejected for e in record.rounds):
            reasons |= {"not accepted by the parties": None}
    return " or ".join(reasons)


def _events(study: Study) -> list[str]:
    runs = [r for r in study.records if r.events]
    rejected = sum(len(e.rejected) for r in study.records for e in r.rounds)
    found = []
    if rejected:
        found.append(f"Left out because {_why(study)}: {_count(rejected, 'update')}; the clients counted as filtered.")
    if runs:
        example = labels.shorten(labels.clean_text(runs[0].events[0]), 160)
        found.append(
            f"{len(runs)} of {_count(len(study.records), 'run')} left a note, for instance “{example}”; "
            "all are under Reproducibility."
        )
    uncounted = Counter(r.costs.compaction for r in study.records if r.costs.flops.dense is None)
    if uncounted:
        found.append(f"In {_count(uncounted.total(), 'run')}, shown as –, {_most(uncounted)}.")
    counted = [r.costs for r in study.records if r.costs.flops.dense is not None]
    reasons = Counter(costs.compaction for costs in counted if costs.compaction != "ok")
    if reasons:
        found.append(
            f"{_count(reasons.total(), 'run')} could not be compacted to a smaller dense model, so their costs are "
            f"counted for sparse kernels alone: {_most(reasons)}."
        )
    return found


def _most(reasons: Counter[str]) -> str:
    """The most common reason, and how many have others."""
    reason, count = reasons.most_common(1)[0]
    more = f"; {reasons.total() - count} for other reasons" if len(reasons) > 1 else ""
    return f"{labels.shorten(labels.clean_text(reason), 300)}{more}"
