"""Claims about one setting of an algorithm, all else equal: explorers (Fig. 11), T_p (Fig. 12), exploring again.

What the paper concludes from these ablations is not public; the claims are our reading, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims.findings import (
    AT_LEVEL,
    NOT_LOWER,
    Bound,
    Claim,
    Evidence,
    conclude,
    weigh,
)
from autoflip_secure.reports.claims.subjects import SUBJECT, clean, non_iid
from autoflip_secure.reports.statistics.intervals import MARGIN
from autoflip_secure.reports.study.clean_twins import mask_overlap
from autoflip_secure.reports.study.labels import number, percent
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.phrases import bracket, points

THRESHOLD, EXPLORERS, EVERY = "algorithm.pruner.threshold", "exploration.explorers", "exploration.every"
PAPERS_THRESHOLD = 0.3
_MARGIN = f"{100 * MARGIN:g} points"
Pair = tuple[str, str, str]  # what the place is called, the algorithm that is judged, what it is compared with


def explorers(study: Study) -> Claim:
    """Fewer explorers than there are cost no accuracy (Fig. 11)."""
    says = "A few explorers are enough: fewer cost no accuracy (Fig. 11, as we read it)."
    measured = (
        f"Accuracy without attack with so many explorers, minus that with the most, at the same seeds. Holds when any "
        f"loss is under {_MARGIN} in every partition and for every number; does not hold when one loses more."
    )
    found = _settings(study, EXPLORERS)
    most = max(found, key=lambda value: value if value is not None else float("inf"), default=None)
    pairs = [(f"{_count(v)}", found[v], found[most]) for v in found if v != most]
    evidence = _compared(study, list(study.facets), pairs, AT_LEVEL, _overlap)
    needs = "" if evidence else "Add the axis exploration.explorers: [1, 5, 20] for autoflip, without attack."
    notes = () if not evidence else (f"Compared with {_count(most)}.",)
    return Claim("explorers", says, measured, conclude(evidence), tuple(evidence), needs, notes)


def thresholds(study: Study) -> Claim:
    """T_p = 0.3 is at the level of every other threshold under non-IID data (Fig. 12)."""
    says = (
        f"T_p = {PAPERS_THRESHOLD:g} prunes without losing accuracy: no other threshold does better on non-IID data "
        "(Fig. 12, as we read it)."
    )
    measured = (
        f"Accuracy without attack at T_p = {PAPERS_THRESHOLD:g}, minus that at another threshold, at the same seeds. "
        f"Holds when any loss is under {_MARGIN} in every non-IID partition; does not hold when one loses more."
    )
    found = _settings(study, THRESHOLD)
    own = found.get(PAPERS_THRESHOLD)
    pairs = [(f"T_p {v:g}", own, found[v]) for v in sorted(found) if v != PAPERS_THRESHOLD and own is not None]
    evidence = _compared(study, non_iid(study), pairs, AT_LEVEL, _densities)
    needs = "" if evidence else "Add the axis algorithm.pruner.threshold: [0.1, 0.3, 0.5] for autoflip, non-IID."
    return Claim("thresholds", says, measured, conclude(evidence), tuple(evidence), needs)


def exploring_again(study: Study) -> Claim:
    """Exploring again does not raise accuracy."""
    says = (
        "One map suffices: exploring again in the course of training does not raise accuracy (asked by the paper's "
        "review)."
    )
    measured = (
        "Accuracy without attack of the run that explores once, minus that of the run that explores again every R "
        f"rounds, at the same seeds. Holds when any gain of exploring again is under {_MARGIN} in every partition and "
        "for every R; does not hold when one shows a gain, however small, that its interval separates from zero."
    )
    found = _settings(study, EVERY)
    once = found.get(None)
    pairs = [
        (f"every {v} rounds", once, found[v])
        for v in sorted(v for v in found if v is not None and v < _rounds(study))
        if once is not None
    ]
    evidence = _compared(study, list(study.facets), pairs, NOT_LOWER, _cost)
    needs = "" if evidence else "Add the axis exploration.every: [null, 20, 10, 5] for autoflip, without attack."
    return Claim("exploring-again", says, measured, conclude(evidence), tuple(evidence), needs)


def _rounds(study: Study) -> int:
    """What R has to be below, for anybody to explore again."""
    return max(len(record.rounds) for record in study.records)


def _settings(study: Study, path: str) -> dict[Any, str]:
    """Value of a setting -> the algorithm with it, of AutoFLIP where it was run, among those alike in all else."""
    groups: dict[str, dict[Any, str]] = {}
    for name in study.algorithms:
        settings = study.variants[name]
        if path in settings or path == EVERY:
            rest = {k: v for k, v in settings.items() if k != path}
            groups.setdefault(canonical([study.families[name], rest]), {})[settings.get(path)] = name
    several = [group for group in groups.values() if len(group) > 1]
    own = [group for group in several if {study.families[name] for name in group.values()} == {SUBJECT}]
    return next(iter([*own, *several]), {})


def _compared(study: Study, facets: Sequence[str], pairs: Sequence[Pair], bound: Bound, more: Any) -> list[Evidence]:
    places = []
    for facet in facets:
        for what, own, other in pairs:
            sides = [study.values(clean(study, facet), name) for name in (own, other)]
            if seeds := sorted(set(sides[0]) & set(sides[1])):
                where = what if len(facets) == 1 else f"{facet}, {what}"
                places.append((where, facet, own, other, [{s: side[s] for s in seeds} for side in sides]))
    evidence = []
    for where, facet, own, other, (mine, theirs) in places:
        one = weigh(where, {s: mine[s] - theirs[s] for s in mine}, bound, len(places), mine.values())
        text = (
            f"{percent(fmean(mine.values()))} against {percent(fmean(theirs.values()))}: "
            f"{points(one.interval.mean)} points {bracket(one.interval, signed=True)}"
        )
        runs = [{r.seed: r for r in study.runs(clean(study, facet), name) if r.seed in mine} for name in (own, other)]
        evidence.append(one.saying(text + more(*runs)))
    return evidence


Runs = dict[int, RunRecord]


def _overlap(few: Runs, most: Runs) -> str:
    found = [v for s in few if (v := mask_overlap(few[s], most[s])) is not None]
    return f"; the two masks overlap by {fmean(found):.2f}" if found else ""


def _densities(own: Runs, other: Runs) -> str:
    left = [fmean(run.rounds[-1].density for run in side.values()) for side in (own, other)]
    return f"; {percent(left[0])} of the hidden weights are left, {percent(left[1])} there"


def _cost(once: Runs, again: Runs) -> str:
    more = [again[s].costs.bytes.uplink_values / once[s].costs.bytes.uplink_values - 1 for s in once]
    back = [v for s in once if (v := mask_overlap(once[s], again[s])) is not None]
    said = f"; exploring again costs {percent(fmean(more))} of uplink bytes more"
    return said + (f", and the two last masks overlap by {fmean(back):.2f}" if back else "")


def _count(value: Any) -> str:
    return "all clients" if value is None else f"{number(value)} explorer{'' if value == 1 else 's'}"
