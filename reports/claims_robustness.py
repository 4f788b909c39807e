r"""Claims about bad clients: graceful degradation under noise (Fig. 9), and label flips that are found (Fig. 10).

.. math:: \text{saved}_s = (y_{clean} - y_{noise})_{FedAvg, s} - (y_{clean} - y_{noise})_{AutoFLIP, s}

averaged over the noise conditions of a setting: positive when AutoFLIP loses less from its own clean accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

from autoflip_secure.record import Detection
from reports.findings import Answer, Bound, Claim, Evidence, above, conclude, weigh
from reports.intervals import MARGIN, Interval, mean_interval
from reports.roles import clean, subject
from reports.statistics import complete
from reports.study import Condition, Study
from reports.verdict import bracket, percent, points

FLIPPED, SCOPE = 0.3, 0.2  # the paper's label flip
CHANCE, FOUND = 0.5, 0.5  # AUC of a coin; true positive rate from which on "identified" is a fair word


def graceful(study: Study) -> Claim:
    """AutoFLIP's loss from clean under noise beside FedAvg's."""
    says = "Graceful degradation: under noisy clients AutoFLIP loses less from its clean accuracy than FedAvg (Fig. 9)."
    measured = (
        "Accuracy lost from clean, mean over all noise conditions of a setting, FedAvg's minus AutoFLIP's at the "
        "same seed. Holds when it is above zero in every setting; does not hold when it is certainly under "
        f"{100 * MARGIN:g} points in one."
    )
    own, places = subject(study), []
    for facet in study.facets:
        noisy = [
            c for c in study.conditions if c.facet == facet and study.attacks[c.attack]["kind"] == "gaussian_noise"
        ]
        losses = {c: v for c in noisy if own and (v := _saved(study, facet, c, own))}
        conditions, seeds = complete({c: {s: pair[0] for s, pair in v.items()} for c, v in losses.items()})
        if conditions:
            places.append((facet, {c: losses[c] for c in conditions}, seeds))
    evidence = []
    for facet, kept, seeds in places:
        saved = {s: sum(kept[c][s][0] - kept[c][s][1] for c in kept) / len(kept) for s in seeds}
        one = weigh(facet, saved, above(MARGIN), len(places))
        lost = [sum(kept[c][s][i] for c in kept for s in seeds) / len(kept) / len(seeds) for i in (0, 1)]
        text = (
            f"FedAvg {_change(lost[0])}, AutoFLIP {_change(lost[1])} points over {len(kept)} noise "
            f"condition{'' if len(kept) == 1 else 's'}: {points(one.interval.mean)} kept "
            f"{bracket(one.interval, signed=True)}"
        )
        evidence.append(one.saying(text + _reversed(kept, seeds)))
    needs = "" if evidence else "Add gaussian_noise at one sigma or more, and no attack, for fedavg and autoflip."
    return Claim("graceful", says, measured, conclude(evidence), tuple(evidence), needs)


def _change(loss: float) -> str:
    """A loss of accuracy in words.

    >>> _change(0.084), _change(-0.362)
    ('loses 8.4', 'gains 36.2')
    """
    return f"{'loses' if loss >= 0 else 'gains'} {100 * abs(loss):.1f}"


def _saved(study: Study, facet: str, noisy: Condition, own: str) -> dict[int, tuple[float, float]]:
    """Seed -> (FedAvg's loss, AutoFLIP's loss)."""
    if study.baseline is None:
        return {}
    calm, hurt = ([study.values(c, a) for a in (study.baseline, own)] for c in (clean(study, facet), noisy))
    seeds = set.intersection(*(set(v) for v in (*calm, *hurt)))
    return {s: (calm[0][s] - hurt[0][s], calm[1][s] - hurt[1][s]) for s in sorted(seeds)}


def _reversed(kept: dict[Condition, dict[int, tuple[float, float]]], seeds: list[int]) -> str:
    """Conditions in which AutoFLIP certainly loses more than FedAvg: a mean would hide them."""
    found = []
    for condition, losses in kept.items():
        interval = mean_interval([losses[s][0] - losses[s][1] for s in seeds])
        if interval.high is not None and interval.high < 0:
            found.append(f"{condition.attack} {bracket(interval, signed=True)}")
    return f"; but it loses more at {', '.join(found)}" if found else ""


def flips_found(study: Study) -> Claim:
    """Agreement scores as a detector of label-flipping participants."""
    says = "30 % flipped labels on 20 % of the clients are identified as low-agreement updates and filtered (Fig. 10)."
    measured = (
        "Agreement scores of all participants and rounds against the truth, per seed: area under the ROC curve, and "
        f"share of bad participants scored under 0.5. Holds when the area is above {CHANCE:g} and the share above "
        f"{100 * FOUND:.0f} % in every partition; does not hold when one of them is certainly below."
    )
    own, places = subject(study), []
    for condition in study.conditions:
        runs = study.runs(condition, own) if own and _is_the_papers(study, condition) else []
        found = {r.seed: r.detection for r in runs if r.detection is not None and r.detection.auc is not None}
        if found:
            places.append((condition.facet, found))
    evidence = []
    for facet, found in places:
        parts = [
            weigh(facet, values, Bound(level, level), 2 * len(places))
            for read, level in ((_area, CHANCE), (_rate, FOUND))
            if (values := _read(found, read))
        ]
        false = list(_read(found, lambda d: d.false_positive_rate).values())
        text = f"area {parts[0].interval.mean:.2f} {_shares(parts[0].interval)}"
        if len(parts) > 1:
            text += f"; bad ones found {percent(parts[1].interval.mean)} {_shares(parts[1].interval, 100)}"
        if false:
            text += f", good ones flagged {percent(sum(false) / len(false))}"
        evidence.append(_weakest(parts).saying(text))
    needs = ""
    if not evidence:
        needs = f"Add {{kind: label_flip, share: {FLIPPED:g}, scope: {SCOPE:g}}} for autoflip."
    return Claim("label-flips", says, measured, conclude(evidence), tuple(evidence), needs)


def _is_the_papers(study: Study, condition: Condition) -> bool:
    attack = study.attacks[condition.attack]
    if attack["kind"] != "label_flip" or attack.get("clients") is not None:
        return False
    return abs(float(attack.get("share") or 0) - FLIPPED) < 1e-9 and abs(float(attack.get("scope") or 0) - SCOPE) < 1e-9


def _area(found: Detection) -> float | None:
    return found.auc


def _rate(found: Detection) -> float | None:
    return found.true_positive_rate


def _read(found: dict[int, Detection], read: Callable[[Detection], float | None]) -> dict[int, float]:
    return {s: v for s, d in found.items() if (v := read(d)) is not None}


def _weakest(parts: list[Evidence]) -> Evidence:
    """Both must hold: the part that refutes, else the one that cannot tell, else the first."""
    order = (Answer.DOES_NOT_HOLD, Answer.CANNOT_TELL, Answer.HOLDS)
    return min(parts, key=lambda p: order.index(p.answer))


def _shares(interval: Interval, scale: int = 1) -> str:
    if interval.low is None or interval.high is None:
        return f"[no interval: {interval.reason}]"
    low, high = scale * max(0.0, interval.low), scale * min(1.0, interval.high)
    return f"[{low:.1f}, {high:.1f}]" if scale > 1 else f"[{low:.2f}, {high:.2f}]"
