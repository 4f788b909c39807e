r"""The claims about noisy clients: graceful degradation (Fig. 9), at the paper's own noise and at any other.

.. math:: \text{saved}_s = (y_{clean} - y_{noise})_{FedAvg, s} - (y_{clean} - y_{noise})_{AutoFLIP, s}

Positive when AutoFLIP loses less from its own clean accuracy. Each strength is judged by itself: a mean over strengths
would say what the sweep's grid says, for a few strong ones outweigh the rest. The paper's own noise, whose share of
clients it varies, is a claim of its own, so that no other strength has a say in it. A strength that harms nobody says
nothing about how gracefully one degrades, and is set aside by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoflip_secure.reports.claims.findings import Answer, Claim, Evidence, above, conclude, weigh
from autoflip_secure.reports.claims.subjects import clean, subject
from autoflip_secure.reports.statistics.intervals import MARGIN
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.wording.phrases import bracket, points

SIGMA = 0.1  # the paper's noise, on a share of the clients that it varies
_MARGIN = f"{100 * MARGIN:g}"
Losses = dict[int, tuple[float, float]]  # seed -> accuracy that FedAvg, and AutoFLIP, lose from clean


def graceful(study: Study) -> list[Claim]:
    """AutoFLIP's loss from clean under noise beside FedAvg's: at the paper's own noise, then at every other."""
    says = "Graceful degradation: under noisy clients AutoFLIP loses less from its clean accuracy than FedAvg (Fig. 9)"
    own, others = list[Condition](), list[Condition]()
    for condition in study.conditions:
        attack = study.attacks[condition.attack]
        if attack["kind"] == "gaussian_noise":
            (own if _is_the_papers(attack) else others).append(condition)
    return [
        _claim(study, "graceful", f"{says}: the paper's noise, σ {SIGMA:g}.", own, f"at sigma {SIGMA:g}"),
        _claim(
            study,
            "graceful-others",
            f"{says}: noise of any other strength.",
            others,
            f"at a sigma other than {SIGMA:g}",
        ),
    ]


def _is_the_papers(attack: Mapping[str, Any]) -> bool:
    """Of the paper's size, on a share of the clients."""
    chosen = attack.get("clients") is not None or bool(attack.get("relative"))
    return not chosen and abs(float(attack.get("sigma") or 0) - SIGMA) < 1e-9


def _claim(study: Study, slug: str, says: str, conditions: Sequence[Condition], lacking: str) -> Claim:
    measured = (
        "Accuracy lost from clean, FedAvg's minus AutoFLIP's at the same seed, each partition and strength by itself. "
        "Holds when it is above zero everywhere; does not hold when it is certainly under "
        f"{_MARGIN} points somewhere. A strength counts when the noise certainly costs one of the two accuracy; where "
        f"it certainly costs neither {_MARGIN} points it is no evidence in either direction, and is set aside."
    )
    own = subject(study)
    places = {c: lost for c in conditions if own and (lost := _lost(study, c.facet, c, own))}
    harm = {place: _harm(str(place), lost) for place, lost in places.items()}
    counted = {c: lost for c, lost in places.items() if harm[c].answer is not Answer.DOES_NOT_HOLD}
    evidence = []
    for place, lost in counted.items():
        kept = {s: theirs - mine for s, (theirs, mine) in lost.items()}
        one = weigh(str(place), kept, above(MARGIN), len(counted))
        text = f"{_both(lost)}: {points(one.interval.mean)} kept {bracket(one.interval, signed=True)}"
        if harm[place].answer is Answer.CANNOT_TELL:
            text += "; whether the noise costs any accuracy here is open"
            seeds = [n for n in (one.seeds_needed, harm[place].seeds_needed) if n]
            one = replace(one, answer=Answer.CANNOT_TELL, seeds_needed=max(seeds, default=None))
        evidence.append(one.saying(text))
    aside = [f"{at} ({found.text})" for at, found in harm.items() if found.answer is Answer.DOES_NOT_HOLD]
    notes = [f"Set aside, because the noise costs neither {_MARGIN} points there: {'; '.join(aside)}."] if aside else []
    needs = ""
    if not evidence:
        needs = f"Add gaussian_noise {lacking}, and no attack, for fedavg and autoflip."
        if aside:
            needs = "Add noise that hurts: more clients (scope), or another split."
    return Claim(slug, says, measured, conclude(evidence), tuple(evidence), needs, tuple(notes))


def _harm(facet: str, lost: Losses) -> Evidence:
    """Whether the noise costs anybody accuracy: "holds" when it does, "does not hold" when it certainly does not."""
    sides = [weigh(facet, {s: pair[i] for s, pair in lost.items()}, above(MARGIN)) for i in (0, 1)]
    answers = {side.answer for side in sides}
    answer = Answer.HOLDS if Answer.HOLDS in answers else conclude(sides)
    if answer is Answer.DOES_NOT_HOLD and answers != {answer}:
        answer = Answer.CANNOT_TELL  # one is unharmed, the other's fate is open
    seeds = [side.seeds_needed for side in sides if side.seeds_needed]
    return replace(sides[0], answer=answer, seeds_needed=min(seeds, default=None)).saying(_both(lost))


def _both(lost: Losses) -> str:
    theirs, mine = (sum(side) / len(side) for side in zip(*lost.values(), strict=True))
    return f"FedAvg {_change(theirs)}, AutoFLIP {_change(mine)} points"


def _change(loss: float) -> str:
    """A loss of accuracy in words.

    >>> _change(0.084), _change(-0.362)
    ('loses 8.4', 'gains 36.2')
    """
    return f"{'loses' if loss >= 0 else 'gains'} {100 * abs(loss):.1f}"


def _lost(study: Study, facet: str, noisy: Condition, own: str) -> Losses:
    """Seed -> (FedAvg's loss, AutoFLIP's loss)."""
    if study.baseline is None:
        return {}
    calm, hurt = ([study.values(c, a) for a in (study.baseline, own)] for c in (clean(study, facet), noisy))
    seeds = set.intersection(*(set(v) for v in (*calm, *hurt)))
    return {s: (calm[0][s] - hurt[0][s], calm[1][s] - hurt[1][s]) for s in sorted(seeds)}
