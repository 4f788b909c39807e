"""Whether the map chooses better than what needs none: random weights, random units, ERK, magnitude, as many of each.

A control is compared with a guided pruner of its own sort, which weighs clients in the same way and leaves as many
weights alive: weights with the threshold mask (a static one first), units with the budgeted mask.
"""

from __future__ import annotations

from statistics import fmean

from autoflip_secure.reports.claims.findings import Claim, above, conclude, weigh
from autoflip_secure.reports.claims.subjects import clean, non_iid
from autoflip_secure.reports.statistics.intervals import MARGIN
from autoflip_secure.reports.study.labels import percent, shorten
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.phrases import bracket, points

ALIKE = 0.05  # densities that differ by more are no comparison at equal counts
_GUIDED = {"random_weights": "threshold", "erk": "threshold", "magnitude": "threshold", "random_units": "budget"}
_NAMED = {
    "random_weights": "random weights",
    "random_units": "random units",
    "erk": "random weights with layer densities by Erdős-Rényi (ERK)",
    "magnitude": "the weights largest in magnitude",
}
_UNSCALED = ("erk", "magnitude")
_PRUNER, _AGGREGATOR = "algorithm.pruner.", "algorithm.aggregator."
Values = dict[int, float]  # by seed


def controls(study: Study) -> list[Claim]:
    """A claim for every control; those whose control was not run say what to add."""
    return [_claim(study, kind) for kind in _NAMED]


def _claim(study: Study, kind: str) -> Claim:
    says = f"The map chooses better than {_NAMED[kind]}, as many of them."
    measured = (
        "Accuracy without attack, pruned by the map minus pruned by the control, at the same seeds and density. Holds "
        f"when it is above zero in every non-IID partition; does not hold when it is certainly under {100 * MARGIN:g} "
        "points in one."
    )
    pair = _pair(study, kind)
    slug = f"map-{kind.replace('_', '-')}"
    if pair is None:
        needs = f"Add a pruner of kind {kind} and one of kind {_GUIDED[kind]} with the same aggregator, non-IID."
        return Claim(slug, says, measured, conclude(()), needs=needs)
    own, other = pair
    places, apart = list[tuple[str, list[float], Values, Values]](), list[str]()
    for facet in non_iid(study):
        condition = clean(study, facet)
        sides = [study.values(condition, name) for name in pair]
        seeds = sorted(set(sides[0]) & set(sides[1]))
        if not seeds:
            continue
        left = [fmean(r.rounds[-1].density for r in study.runs(condition, name) if r.seed in seeds) for name in pair]
        if abs(left[0] - left[1]) > ALIKE:
            apart.append(f"{facet} ({percent(left[0])} and {percent(left[1])} of the hidden weights)")
            continue
        own_values, other_values = ({s: side[s] for s in seeds} for side in sides)
        places.append((facet, left, own_values, other_values))
    evidence = []
    for facet, left, mine, theirs in places:
        one = weigh(facet, {s: mine[s] - theirs[s] for s in mine}, above(MARGIN), len(places))
        text = (
            f"{shorten(own)} {percent(fmean(mine.values()))}, {shorten(other)} {percent(fmean(theirs.values()))}: "
            f"{points(one.interval.mean)} points {bracket(one.interval, signed=True)}; densities {left[0]:.2f} and "
            f"{left[1]:.2f}"
        )
        evidence.append(one.saying(text))
    notes = [f"Not compared, because densities differ: {'; '.join(apart)}."] if apart else []
    if evidence and kind in _UNSCALED:
        notes.append("The control does not rescale what is left, as the guided pruner does.")
    needs = "" if evidence else "Let both leave as many weights alive."
    return Claim(slug, says, measured, conclude(evidence), tuple(evidence), needs, tuple(notes))


def _pair(study: Study, kind: str) -> tuple[str, str] | None:
    """The guided algorithm and its control: the same aggregator, a static mask before a refined one."""
    found = []
    for other in study.algorithms:
        if study.variants[other].get(f"{_PRUNER}kind") != kind:
            continue
        for own in study.algorithms:
            settings = study.variants[own]
            if settings.get(f"{_PRUNER}kind") == _GUIDED[kind] and _rule(study, own) == _rule(study, other):
                refined = settings.get(f"{_PRUNER}refine_every") is not None
                other_threshold = study.variants[other].get(f"{_PRUNER}threshold")
                alike = other_threshold in (None, settings.get(f"{_PRUNER}threshold"))
                found.append((not alike, refined, own, other))
    return min(found)[2:] if found else None


def _rule(study: Study, algorithm: str) -> dict[str, object]:
    return {k: v for k, v in study.variants[algorithm].items() if k.startswith(_AGGREGATOR)}
