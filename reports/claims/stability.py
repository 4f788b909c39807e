r"""The reviewer's question about the one-time map: does it still describe training when training ends?

The quantity is Spearman's correlation of D_0 with the squared updates of a round (:mod:`.records.stability`), the mean
over the last fifth of the rounds, per seed. The bounds are ours, for the paper states none: a map that keeps 0.7 of its
ranks is called stable, one that has certainly lost half of them is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from statistics import fmean

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.stability import TOP, Stability
from autoflip_secure.reports.claims.findings import Bound, Claim, above, conclude, weigh
from autoflip_secure.reports.claims.subjects import clean, non_iid, subject
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.clean_twins import mask_overlap
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.phrases import ends

STABLE, LOST = 0.7, 0.5
LEAST_COSINE = 0.01  # a cosine between clients higher by certainly less than this is not higher
_LATE = 0.2  # share of the rounds that counts as the end
_NEEDS = "Add measures: [stability]."


def stable_map(study: Study) -> Claim:
    """One map is enough: late updates lie as the first exploration said."""
    says = (
        "One map is stable: the loss landscape explored once, before training, still describes the updates of late "
        "rounds (asked by the paper's review)."
    )
    measured = (
        "Spearman's rank correlation of the explored map with the squared updates of a round, on live hidden weights, "
        f"mean over the last {100 * _LATE:.0f} % of the rounds, without attack, of a run in which nothing is pruned "
        f"where there is one. Supported by {STABLE:g} or more in every partition; refuted by certainly less than "
        f"{LOST:g} in one. The paper states no bound; these are ours."
    )
    name = _explorer(study)
    found = {} if name is None else {f: _runs(study, f, name) for f in study.facets}
    places = {f: runs for f, runs in found.items() if runs}
    evidence, notes = [], []
    for facet, runs in places.items():
        late = {r.seed: v for r in runs if (v := _late(r, lambda s: s.rank_correlation)) is not None}
        one = weigh(facet, late, Bound(STABLE, LOST), len(places))
        cosine, top = (_change(runs, read) for read in (lambda s: s.cosine, lambda s: s.top_overlap))
        begins = _change(runs, lambda s: s.rank_correlation)[0]
        text = (
            f"rank correlation {begins:.2f} in round 1, {one.interval.mean:.2f} {_two(one.interval)} late; cosine "
            f"{cosine[0]:.2f} and {cosine[1]:.2f}; of the top {100 * TOP:.0f} % the map has {100 * top[1]:.0f} % late"
        )
        evidence.append(one.saying(text))
        notes += _drift(facet, runs) + _between_seeds(study, facet)
    if evidence:
        notes.insert(0, f"Measured on {name}.")
    return Claim(
        "stable-map", says, measured, conclude(evidence), tuple(evidence), "" if evidence else _NEEDS, tuple(notes)
    )


def drift(study: Study) -> Claim:
    """AutoFLIP's clients drift apart less than FedAvg's."""
    says = (
        "Clients drift apart less than under FedAvg on non-IID data: their updates point more the same way (asked by "
        "the paper's review)."
    )
    measured = (
        "Mean cosine between the updates of two participants, mean over rounds, without attack, AutoFLIP's minus "
        f"FedAvg's at the same seed. Holds when it is above zero in every non-IID partition; does not hold when it is "
        f"certainly under {LEAST_COSINE:g} in one."
    )
    own, base = subject(study), study.baseline
    pairs = {}
    for facet in non_iid(study) if own and base else ():
        sides = [
            {r.seed: v for r in study.runs(clean(study, facet), a or "") if (v := _whole(r)) is not None}
            for a in (own, base)
        ]
        if seeds := sorted(set(sides[0]) & set(sides[1])):
            pairs[facet] = [{s: side[s] for s in seeds} for side in sides]
    evidence = []
    for facet, (mine, theirs) in pairs.items():
        one = weigh(facet, {s: mine[s] - theirs[s] for s in mine}, above(LEAST_COSINE), len(pairs))
        text = f"{fmean(mine.values()):.3f} against FedAvg's {fmean(theirs.values()):.3f}: "
        text += f"{one.interval.mean:+.3f} {ends(one.interval, '{:+.3f}'.format)}"
        evidence.append(one.saying(text.replace("-", "−")))
    needs = "" if evidence else "Add measures: [stability], for fedavg and autoflip on a non-IID partition."
    return Claim("drift", says, measured, conclude(evidence), tuple(evidence), needs)


def _explorer(study: Study) -> str | None:
    """The algorithm to ask: one that explores and prunes nothing, else AutoFLIP, else any that has a map."""
    able = [a for a in study.algorithms if any(_runs(study, f, a) for f in study.facets)]
    whole = [a for a in able if study.variants[a].get("algorithm.pruner.kind") == "none"]
    own = subject(study)
    return next(iter([*whole, *([own] if own in able else []), *able]), None)


def _runs(study: Study, facet: str, name: str) -> list[RunRecord]:
    runs = study.runs(clean(study, facet), name)
    return [r for r in runs if _late(r, lambda s: s.rank_correlation) is not None]


def _late(run: RunRecord, read: Callable[[Stability], float | None]) -> float | None:
    """Mean over the last rounds; None: never measured there."""
    last = run.rounds[-max(1, round(_LATE * len(run.rounds))) :]
    known = [v for e in last if e.stability is not None and (v := read(e.stability)) is not None]
    return fmean(known) if known else None


def _whole(run: RunRecord) -> float | None:
    known = [e.stability.between_clients for e in run.rounds if e.stability is not None]
    found = [v for v in known if v is not None]
    return fmean(found) if found else None


def _change(runs: list[RunRecord], read: Callable[[Stability], float | None]) -> tuple[float, float]:
    """Means over seeds: in round 1, and late."""
    first = [v for r in runs if (s := r.rounds[0].stability) is not None and (v := read(s)) is not None]
    late = [v for r in runs if (v := _late(r, read)) is not None]
    return (fmean(first) if first else float("nan")), (fmean(late) if late else float("nan"))


def _drift(facet: str, runs: list[RunRecord]) -> list[str]:
    clients, steps = (_change(runs, read) for read in (lambda s: s.between_clients, lambda s: s.successive))
    if math.isnan(clients[1]):
        return []
    said = f"{facet}: two clients' updates have cosine {clients[0]:.2f} in round 1 and {clients[1]:.2f} late"
    return [f"{said}; successive steps {steps[1]:.2f} late.".replace("-", "−")]


def _between_seeds(study: Study, facet: str) -> list[str]:
    """How far the final masks of two seeds agree: another initial model and another split, so another map."""
    name = subject(study)
    runs = [] if name is None else study.runs(clean(study, facet), name)
    found = [v for a, b in combinations(runs[:10], 2) if (v := mask_overlap(a, b)) is not None]
    if not found:
        return []
    density = fmean(r.rounds[-1].density for r in runs)
    chance = density / (2 - density)
    return [f"{facet}: final masks of two seeds overlap by {fmean(found):.2f} (by chance {chance:.2f})."]


def _two(interval: Interval) -> str:
    return ends(interval, "{:.2f}".format).replace("-", "−")
