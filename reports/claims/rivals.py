"""Table III: AutoFLIP beside the rivals that the paper names, on the same splits."""

from __future__ import annotations

from statistics import fmean

from autoflip_secure.reports.claims.findings import AT_LEVEL, Claim, conclude, weigh
from autoflip_secure.reports.claims.subjects import clean, non_iid, subject
from autoflip_secure.reports.statistics.intervals import MARGIN
from autoflip_secure.reports.study.labels import percent
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.phrases import bracket, points

RIVALS = {"prunefl": "PruneFL", "eflprune": "EFLPrune", "fedmask": "FedMask"}


def rivals(study: Study) -> list[Claim]:
    """A claim for every rival of the paper."""
    return [_claim(study, name) for name in RIVALS]


def _claim(study: Study, name: str) -> Claim:
    says = f"Accuracy at the level of {RIVALS[name]} or above under non-IID data (Table III)."
    measured = (
        f"Accuracy without attack, AutoFLIP's minus {RIVALS[name]}'s at the same seeds and of the same test. Holds "
        f"when any loss is under {100 * MARGIN:g} points in every non-IID partition; does not hold when one loses more."
    )
    own = subject(study)
    others = [a for a in study.algorithms if study.families[a] == name]
    places = {}
    for facet in non_iid(study) if own is not None and others else ():
        sides = [study.values(clean(study, facet), a) for a in (own or "", others[(len(others) - 1) // 2])]
        if seeds := sorted(set(sides[0]) & set(sides[1])):
            places[facet] = [{s: side[s] for s in seeds} for side in sides]
    evidence = []
    for facet, (mine, theirs) in places.items():
        one = weigh(facet, {s: mine[s] - theirs[s] for s in mine}, AT_LEVEL, len(places), mine.values())
        text = (
            f"{percent(fmean(mine.values()))} against {percent(fmean(theirs.values()))}: "
            f"{points(one.interval.mean)} points {bracket(one.interval, signed=True)}"
        )
        evidence.append(one.saying(text))
    needs = "" if evidence else f"Add the algorithms autoflip and {name} on a non-IID partition, without attack."
    return Claim(f"level-{name}", says, measured, conclude(evidence), tuple(evidence), needs)
