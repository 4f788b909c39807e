"""The first screen of a sweep that asks about claims: its headline says what became of them, not who had more accuracy.

A sweep with ``measures: [stability]`` asks whether one map suffices and how far clients drift apart. One that runs a
model pruned by the map, its unpruned twin and controls, all of it without attack, asks what would refute the paper.
Accuracies and their differences follow behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoflip_secure.reports.claims.findings import Answer, Claim, Evidence
from autoflip_secure.reports.study.labels import NO_ATTACK, capital
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.key_numbers import MOST, KeyNumber
from autoflip_secure.reports.wording.phrases import bracket, ends, points
from autoflip_secure.reports.wording.verdict import Opening, keep_units
from autoflip_secure.terminal.counting import count_of, listed

_STABILITY = ("stable-map", "drift")
_FALSIFIER = ("falsifier", "map-random-weights", "map-random-units", "map-erk", "map-magnitude")
_CONTROL, _BETTER = "map-", "the map chooses better than "
_SHORT = {
    "stable-map": "the map explored before round 1 still describes late updates",
    "drift": "clients drift apart less than under FedAvg",
    "falsifier": "pruning by the initial map keeps accuracy",
    "map-random-weights": f"{_BETTER}random weights",
    "map-random-units": f"{_BETTER}random units",
    "map-erk": f"{_BETTER}ERK",
    "map-magnitude": f"{_BETTER}magnitude",
}
_QUANTITY = {
    "stable-map": "Rank correlation of the map with late updates",
    "falsifier": "Pruned by the map against unpruned",
}
_PICTURES = {"stable-map": ("stability",), "falsifier": ("paired-differences",)}


def with_claims(opening: Opening, study: Study, scenario: Mapping[str, Any], found: Sequence[Claim]) -> Opening:
    """``opening`` led by the claims that the sweep asks about; as it is where it asks about none."""
    own = _asked(study, scenario, {claim.slug: claim for claim in found})
    if not own:
        return opening
    first = own[0].slug
    text = "; ".join(_headline(own))
    return replace(
        opening, headline=capital(keep_units(text)), answer=[*(keep_units(_said(c)) for c in own), *opening.answer],
        numbers=_numbers(own[0]), pictures=(*_PICTURES[first], *opening.pictures),
    )  # fmt: skip


def _asked(study: Study, scenario: Mapping[str, Any], found: Mapping[str, Claim]) -> list[Claim]:
    """Those with evidence, the first of which is the question."""
    falsifies = "compare" not in scenario and list(study.attacks) == [NO_ATTACK]
    for slugs, asks in ((_STABILITY, "stability" in (scenario.get("measures") or ())), (_FALSIFIER, falsifies)):
        own = [found[slug] for slug in slugs if slug in found and found[slug].answer is not Answer.NOT_TESTED]
        if asks and len(own) > 1 and own[0].slug == slugs[0]:
            return own
    return []


def _headline(own: Sequence[Claim]) -> list[str]:
    """What became of each; controls that have the same answer stand together."""
    told = [f"{_SHORT[claim.slug]}: {claim.told}" for claim in own if not claim.slug.startswith(_CONTROL)]
    found: dict[str, list[str]] = {}
    for claim in own:
        if claim.slug.startswith(_CONTROL):
            found.setdefault(claim.told, []).append(_SHORT[claim.slug].removeprefix(_BETTER))
    return [*told, *(f"{_BETTER}{listed(names)}: {answer}" for answer, names in found.items())]


def _said(claim: Claim) -> str:
    """What became of it, and where."""
    told = "; ".join(f"{one.where}: {one.text.partition(';')[0]}{_open(claim, one)}" for one in claim.evidence)
    return f"{capital(_SHORT[claim.slug])}: {claim.told}. {told}."


def _open(claim: Claim, one: Evidence) -> str:
    """A place that is judged otherwise than the whole, and what would settle it."""
    word = f" ({one.answer.value})" if one.answer is not claim.answer else ""
    return f"{word}, about {count_of(one.seeds_needed, 'seed')} would settle it" if one.seeds_needed else word


def _numbers(claim: Claim) -> tuple[KeyNumber, ...]:
    """The quantity of a claim in every place, as many as there is room for."""
    return tuple(
        KeyNumber(f"{_QUANTITY[claim.slug]}, {one.where}", *_told(claim.slug, one), count_of(one.interval.n, "seed"))
        for one in claim.evidence[:MOST]
    )


def _told(slug: str, one: Evidence) -> tuple[str, str]:
    if slug == "falsifier":
        interval = bracket(one.interval, signed=True) if one.interval.low is not None else ""
        return f"{points(one.interval.mean)} points", interval
    between = ends(one.interval, "{:.2f}".format) if one.interval.low is not None else ""
    return f"{one.interval.mean:.2f}".replace("-", "−"), between.replace("-", "−")
