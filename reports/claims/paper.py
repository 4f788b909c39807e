"""The claims of the AutoFLIP paper, each with what this sweep says about it; the one that would refute it comes first.

The claims are our reading of the paper's abstract, figure captions and a review. A claim is answered from paired
evidence only, and one that the sweep cannot answer says what to add.
"""

from __future__ import annotations

from dataclasses import replace

from autoflip_secure.reports.claims.controls import controls
from autoflip_secure.reports.claims.costs import communication, compute
from autoflip_secure.reports.claims.findings import (
    AT_LEVEL,
    NOT_LOWER,
    Bound,
    Claim,
    Evidence,
    conclude,
    judged_together,
    weigh,
)
from autoflip_secure.reports.claims.flips import flips_found
from autoflip_secure.reports.claims.noise import graceful
from autoflip_secure.reports.claims.settings import explorers, exploring_again, thresholds
from autoflip_secure.reports.claims.stability import drift, stable_map
from autoflip_secure.reports.claims.subjects import as_published, clean, non_iid, pruned_pair, subject
from autoflip_secure.reports.claims.training import convergence, variance
from autoflip_secure.reports.statistics.intervals import MARGIN
from autoflip_secure.reports.statistics.sample_size import MOST, seeds_for_width
from autoflip_secure.reports.study.labels import percent, shorten
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.phrases import bracket, points

PRECISE = 0.003  # half width that the falsifier is to be known to
NON_IID = "a non-IID partition, such as {kind: dirichlet, alpha: 0.3} or {kind: pathological, classes_per_client: 2}"


def claims(study: Study) -> list[Claim]:
    """All claims, judged together, the falsifier first; of sweeps over privacy or secure sums, of runs without both."""
    study, which = as_published(study)
    found = judged_together([*of_paper(study), *(claim for claim in asked_by_review(study) if claim.evidence)])
    note = f"Of the runs {which} alone."
    return [replace(claim, notes=(*claim.notes, note)) if which and claim.evidence else claim for claim in found]


def of_paper(study: Study) -> list[Claim]:
    """What the paper claims, of runs with one setting of privacy and secure sums."""
    return [
        falsifier(study),
        level(study),
        *compute(study),
        *communication(study),
        convergence(study),
        *variance(study),
        *graceful(study),
        flips_found(study),
    ]


def asked_by_review(study: Study) -> list[Claim]:
    """What ablations and the paper's reviewer ask about, and few sweeps can answer."""
    return [
        *controls(study),
        explorers(study),
        thresholds(study),
        stable_map(study),
        exploring_again(study),
        drift(study),
    ]


def falsifier(study: Study) -> Claim:
    """Pruning by the initial map must not cost accuracy where the unpruned model is trained on the same split."""
    says = (
        "Pruning by the initial map of the loss landscape keeps the accuracy of the unpruned model under the same "
        "non-IID partition. (The falsifier: measurably lower accuracy refutes the paper's central claim.)"
    )
    pair = pruned_pair(study)
    measured = (
        f"Accuracy without attack, difference at the same seeds. Holds when any loss is under {_margin()} in "
        "every non-IID partition; does not hold when one shows a loss, however small, that its interval separates "
        "from zero."
    )
    if pair is None:
        needs = (
            "Add a model pruned by guidance and its unpruned twin, which weighs clients in the same way, without "
            "attack, at the same seeds: guidance_only with fedavg, or autoflip with agreement_only. AutoFLIP with "
            "FedAvg alone would not do: they also weigh clients differently."
        )
        if not non_iid(study):
            needs += f" Add {NON_IID}."
        return Claim("falsifier", says, measured, conclude(()), needs=needs)
    notes = (f"Compared: {pair.pruned} with {pair.unpruned}{f'; {pair.why}' if pair.why else ''}.",)
    found = _accuracy(study, "falsifier", says, measured, pair.pruned, pair.unpruned, NOT_LOWER, notes)
    return replace(found, notes=(*found.notes, *(_precision(one) for one in found.evidence)))


def _precision(found: Evidence) -> str:
    """How exactly a difference is known, and how many seeds would make it :data:`PRECISE`."""
    interval, wanted = found.interval, f"{100 * PRECISE:g} points"
    if interval.low is None or interval.high is None:
        return f"{found.where}: one seed does not say how exactly this is known."
    half = (interval.high - interval.low) / 2
    if half <= PRECISE:
        return f"{found.where}: known to {100 * half:.2f} points, within {wanted}."
    needed = seeds_for_width(found.values, PRECISE)
    more = (
        f"about {needed} seeds would make it {wanted}"
        if needed
        else f"no number of seeds up to {MOST} makes it {wanted}"
    )
    return f"{found.where}: known to {100 * half:.1f} points; {more}."


def level(study: Study) -> Claim:
    """AutoFLIP beside FedAvg on non-IID data, nobody attacking."""
    says = "Accuracy at the level of FedAvg or above under non-IID data."
    measured = (
        f"Accuracy without attack, difference at the same seeds. Holds when any loss is under {_margin()} in "
        "every non-IID partition; does not hold when one loses more."
    )
    own = subject(study)
    if own is None or study.baseline is None:
        return Claim("accuracy", says, measured, conclude(()), needs="Add the algorithms fedavg and autoflip.")
    notes = ("The paper's models and data, and its other baselines, were not run.",)
    return _accuracy(study, "accuracy", says, measured, own, study.baseline, AT_LEVEL, notes)


def _accuracy(
    study: Study, slug: str, says: str, measured: str, own: str, other: str, bound: Bound, notes: tuple[str, ...]
) -> Claim:
    places = []
    for facet in non_iid(study):
        a, b = (study.values(clean(study, facet), x) for x in (own, other))
        seeds = sorted(set(a) & set(b))
        if seeds:
            places.append((facet, {s: a[s] for s in seeds}, {s: b[s] for s in seeds}))
    evidence = []
    for facet, a, b in places:
        found = weigh(facet, {s: a[s] - b[s] for s in a}, bound, len(places), a.values())
        means = [sum(side.values()) / len(side) for side in (a, b)]
        text = (
            f"{shorten(own)} {percent(means[0])}, {shorten(other)} {percent(means[1])}: "
            f"{points(found.interval.mean)} points {bracket(found.interval, signed=True)}"
        )
        evidence.append(found.saying(text))
    needs = "" if evidence else f"Add {NON_IID}, without attack, for {own} and {other} at the same seeds."
    return Claim(slug, says, measured, conclude(evidence), tuple(evidence), needs, notes)


def _margin() -> str:
    return f"{100 * MARGIN:g} points"
