r"""The claim about noisy clients: graceful degradation (Fig. 9).

.. math:: \text{saved}_s = (y_{clean} - y_{noise})_{FedAvg, s} - (y_{clean} - y_{noise})_{AutoFLIP, s}

averaged over the noise conditions of a setting: positive when AutoFLIP loses less from its own clean accuracy. All
conditions of a setting enter, the harmless ones too (leaving some out by what came out would flatter whoever was lucky
in the others); but a setting in which noise harms nobody says nothing about how gracefully one degrades.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.findings import Answer, Claim, Evidence, above, conclude, weigh
from reports.intervals import MARGIN, mean_interval
from reports.roles import clean, subject
from reports.statistics import complete
from reports.study import Condition, Study
from reports.verdict import bracket, points

_MARGIN = f"{100 * MARGIN:g}"
Losses = dict[int, tuple[float, float]]  # seed -> accuracy that FedAvg, and AutoFLIP, lose from clean


def graceful(study: Study) -> Claim:
    """AutoFLIP's loss from clean under noise beside FedAvg's."""
    says = "Graceful degradation: under noisy clients AutoFLIP loses less from its clean accuracy than FedAvg (Fig. 9)."
    measured = (
        "Accuracy lost from clean, mean over all noise conditions of a setting, FedAvg's minus AutoFLIP's at the "
        "same seed. Holds when it is above zero in every setting; does not hold when it is certainly under "
        f"{_MARGIN} points in one. A setting counts when the noise certainly costs one of the two accuracy; where it "
        f"certainly costs neither {_MARGIN} points it is no evidence in either direction, and is set aside."
    )
    own = subject(study)
    places = [found for facet in study.facets if own and (found := _losses(study, facet, own))]
    harm = {place: _harm(place, lost) for place, _, lost in places}
    places = [found for found in places if harm[found[0]].answer is not Answer.DOES_NOT_HOLD]
    evidence = []
    for facet, kept, lost in places:
        one = weigh(facet, {s: theirs - mine for s, (theirs, mine) in lost.items()}, above(MARGIN), len(places))
        text = (
            f"{_both(lost)} over {len(kept)} noise condition{'' if len(kept) == 1 else 's'}: "
            f"{points(one.interval.mean)} kept {bracket(one.interval, signed=True)}{_reversed(kept, list(lost))}"
        )
        if harm[facet].answer is Answer.CANNOT_TELL:
            text += "; whether the noise costs any accuracy here is open"
            seeds = [n for n in (one.seeds_needed, harm[facet].seeds_needed) if n]
            one = replace(one, answer=Answer.CANNOT_TELL, seeds_needed=max(seeds, default=None))
        evidence.append(one.saying(text))
    aside = [f"{at} ({found.text})" for at, found in harm.items() if found.answer is Answer.DOES_NOT_HOLD]
    notes = [f"Set aside, because the noise costs neither {_MARGIN} points there: {'; '.join(aside)}."] if aside else []
    needs = ""
    if not evidence:
        needs = "Add gaussian_noise at one sigma or more, and no attack, for fedavg and autoflip."
        if aside:
            needs = "Add noise that hurts: a larger sigma, or more clients (scope)."
    return Claim("graceful", says, measured, conclude(evidence), tuple(evidence), needs, tuple(notes))


def _losses(study: Study, facet: str, own: str) -> tuple[str, dict[Condition, Losses], Losses] | None:
    """The facet, losses per noise condition, and their mean over conditions; None where nothing can be compared."""
    kinds = {c: study.attacks[c.attack]["kind"] for c in study.conditions if c.facet == facet}
    found = {c: _lost(study, facet, c, own) for c, kind in kinds.items() if kind == "gaussian_noise"}
    conditions, seeds = complete({c: {s: pair[0] for s, pair in v.items()} for c, v in found.items() if v})
    if not conditions:
        return None
    kept = {c: {s: found[c][s] for s in seeds} for c in conditions}
    mean = {s: (_mean([kept[c][s][0] for c in kept]), _mean([kept[c][s][1] for c in kept])) for s in seeds}
    return facet, kept, mean


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
    theirs, mine = (_mean([pair[i] for pair in lost.values()]) for i in (0, 1))
    return f"FedAvg {_change(theirs)}, AutoFLIP {_change(mine)} points"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


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


def _reversed(kept: dict[Condition, Losses], seeds: list[int]) -> str:
    """Conditions in which AutoFLIP certainly loses more than FedAvg: a mean would hide them."""
    found = []
    for condition, losses in kept.items():
        interval = mean_interval([losses[s][0] - losses[s][1] for s in seeds])
        if interval.high is not None and interval.high < 0:
            found.append(f"{condition.attack} {bracket(interval, signed=True)}")
    return f"; but it loses more at {', '.join(found)}" if found else ""
