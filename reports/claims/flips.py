"""The claim about label flips: agreement scores find them (Fig. 10)."""

from __future__ import annotations

from autoflip_secure.records.run import Detection
from autoflip_secure.reports.claims.findings import Answer, Bound, Claim, Evidence, conclude, over, weigh
from autoflip_secure.reports.claims.subjects import subject
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.labels import percent
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.wording.phrases import ends

FLIPPED, SCOPE = 0.3, 0.2  # the paper's label flip
CHANCE, FOUND = 0.5, 0.5  # AUC of a coin; true positive rate from which on "identified" is a fair word
FLAGGED = 0.1  # false positive rate up to which it is one: whoever flags everybody finds all malicious ones too


def flips_found(study: Study) -> Claim:
    """Agreement scores as a detector of label-flipping participants."""
    says = "30 % flipped labels on 20 % of the clients are identified as low-agreement updates and filtered (Fig. 10)."
    measured = (
        "Agreement scores of all participants and rounds against the truth, per seed: area under the ROC curve, and "
        f"shares of malicious and of honest participants scored under 0.5. Holds when the area is above {CHANCE:g}, "
        f"over {100 * FOUND:.0f} % of the malicious ones are flagged and at most {100 * FLAGGED:.0f} % of the honest "
        "ones, in every partition; does not hold when one of the three is certainly not so."
    )
    own, places = subject(study), []
    for condition in study.conditions:
        runs = study.runs(condition, own) if own and _is_the_papers(study, condition) else []
        found = {r.seed: r.detection for r in runs if r.detection is not None and r.detection.auc is not None}
        if found:
            places.append((condition.facet, found))
    evidence = []
    for facet, found in places:
        area, true, false = (_read(found, name) for name in ("auc", "true_positive_rate", "false_positive_rate"))
        parts = [weigh(facet, area, Bound(CHANCE, CHANCE), 3 * len(places))]
        text = f"area {parts[0].interval.mean:.2f} {_shares(parts[0].interval)}"
        if true:
            parts.append(weigh(facet, true, over(FOUND), 3 * len(places)))
            text += f"; true positive rate {percent(parts[-1].interval.mean)} {_shares(parts[-1].interval, 100)}"
        if false:
            spared = {seed: 1 - rate for seed, rate in false.items()}
            parts.append(weigh(facet, spared, Bound(1 - FLAGGED, 1 - FLAGGED, counted=True), 3 * len(places)))
            interval = mean_interval(list(false.values()))
            text += f"; false positive rate {percent(interval.mean)} {_shares(interval, 100)}"
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


def _read(found: dict[int, Detection], name: str) -> dict[int, float]:
    return {seed: value for seed, one in found.items() if (value := getattr(one, name)) is not None}


def _weakest(parts: list[Evidence]) -> Evidence:
    """All must hold: the part that refutes best, else one that is open, else the one that holds least surely."""
    order = (Answer.DOES_NOT_HOLD, Answer.CANNOT_TELL, Answer.HOLDS)
    return min(parts, key=lambda part: (order.index(part.answer), -part.p if part.answer is Answer.HOLDS else part.p))


def _shares(interval: Interval, scale: int = 1) -> str:
    digits = 1 if scale > 1 else 2
    return ends(interval, lambda end: f"{scale * min(1.0, max(0.0, end)):.{digits}f}")
