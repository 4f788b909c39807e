"""Table III and Fig. 7: AutoFLIP beside the rivals that the paper names, on the same splits."""

from __future__ import annotations

from statistics import fmean

from autoflip_secure.reports.claims.findings import AT_LEVEL, Claim, conclude, weigh
from autoflip_secure.reports.claims.subjects import clean, non_iid, subject
from autoflip_secure.reports.claims.training import ROUNDS_ALONE, fewer_rounds
from autoflip_secure.reports.statistics.intervals import MARGIN
from autoflip_secure.reports.study.labels import percent
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.to_target import SHARE
from autoflip_secure.reports.wording.phrases import bracket, points

RIVALS = {"prunefl": "PruneFL", "eflprune": "EFLPrune", "fedmask": "FedMask"}


def rivals(study: Study) -> list[Claim]:
    """Two claims for every rival of the paper: accuracy at its level, and no more rounds on the way."""
    return [*(_level(study, name) for name in RIVALS), *(_faster(study, name) for name in RIVALS)]


def _faster(study: Study, name: str) -> Claim:
    """Rounds until 90 % of FedAvg's accuracy, AutoFLIP's fewer than the rival's in every partition."""
    says = f"Faster convergence than {RIVALS[name]}: fewer rounds to the same accuracy (Fig. 7)."
    measured = (
        f"Rounds until {100 * SHARE:.0f} % of FedAvg's accuracy at the same seed and of the same test, without attack: "
        f"AutoFLIP's and {RIVALS[name]}'s. Holds when the rounds saved are above zero in every partition; does not "
        "hold when they are certainly fewer than one step of evaluation in one."
    )
    own, other = subject(study), _of(study, name)
    places = {}
    if own is not None and other and study.baseline is not None:
        for facet in study.facets:
            sides = [{r.seed: r for r in study.runs(clean(study, facet), a)} for a in (own, other, study.baseline)]
            if seeds := sorted(set.intersection(*map(set, sides))):
                mine, theirs, base = ({seed: side[seed] for seed in seeds} for side in sides)
                places[facet] = (mine, theirs, base)
    evidence = fewer_rounds(study, places, RIVALS[name])
    needs = "" if evidence else f"Add the algorithms fedavg, autoflip and {name}, without attack, at the same seeds."
    return Claim(f"faster-{name}", says, measured, conclude(evidence), tuple(evidence), needs, (ROUNDS_ALONE,))


def _of(study: Study, name: str) -> str:
    """Of several settings of the rival, the middle one; "": it was not run."""
    found = [a for a in study.algorithms if study.families[a] == name]
    return found[(len(found) - 1) // 2] if found else ""


def _level(study: Study, name: str) -> Claim:
    says = f"Accuracy at the level of {RIVALS[name]} or above under non-IID data (Table III)."
    measured = (
        f"Accuracy without attack, AutoFLIP's minus {RIVALS[name]}'s at the same seeds and of the same test. Holds "
        f"when any loss is under {100 * MARGIN:g} points in every non-IID partition; does not hold when one loses more."
    )
    own = subject(study)
    other = _of(study, name)
    places = {}
    for facet in non_iid(study) if own is not None and other else ():
        sides = [study.values(clean(study, facet), a) for a in (own or "", other)]
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
