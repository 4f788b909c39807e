r"""Claims about training: faster convergence (Fig. 7) and lower variance of weight updates (Fig. 3) than FedAvg.

Rounds to accuracy: the first evaluated round whose test accuracy reaches a share of what FedAvg ends with, at the same
seed and without attack. Variance: the ratio to FedAvg's, as the mean over rounds of the difference of logarithms. Over
which coordinates the paper takes it is not public, and the answers are opposite, so both are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.reports.claims.findings import BOTH, Claim, Evidence, above, conclude, weigh
from autoflip_secure.reports.claims.subjects import subject
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.to_target import SHARE, first_reaching
from autoflip_secure.reports.wording.phrases import ends
from autoflip_secure.terminal.counting import some

LEAST_RATIO = 0.05  # an update variance lower by certainly less than this share is not "lower"
ROUNDS_ALONE = (
    "Rounds alone: what comes before round 1, the exploration too, is in none of them. The figure of what it takes "
    "to get there counts it, in bytes and operations."
)
RATES = "Let both train at one rate: --set tune=null."
Runs = dict[int, RunRecord]  # by seed
Read = Callable[[RoundRecord], float | None]


def convergence(study: Study) -> Claim:
    """Rounds until 90 % of FedAvg's accuracy, AutoFLIP's fewer than FedAvg's in every partition."""
    says = "Faster convergence than FedAvg: fewer rounds to the same accuracy (Fig. 7)."
    measured = (
        f"Rounds until {100 * SHARE:.0f} % of FedAvg's accuracy at the same seed, without attack. "
        "Holds when the rounds saved are above zero in every partition; does not hold when they are certainly fewer "
        "than one step of evaluation in one."
    )
    places = {facet: (own, base, base) for facet, own, base in _runs(study)}
    evidence = fewer_rounds(study, places, "FedAvg")
    notes = ("This is about FedAvg alone; how it is beside the paper's rivals, the command claims says.", ROUNDS_ALONE)
    return Claim("convergence", says, measured, conclude(evidence), tuple(evidence), "" if evidence else BOTH, notes)


def fewer_rounds(study: Study, places: Mapping[str, tuple[Runs, Runs, Runs]], other: str) -> list[Evidence]:
    """Rounds that AutoFLIP's runs save on the way to the goal, place by place.

    Args:
        study: the sweep.
        places: AutoFLIP's runs, those that it is compared with, and the baseline's that set the goal: equal seeds.
        other: name of the second ones.
    """
    evidence = []
    for facet, (own, theirs, base) in places.items():
        goals = {seed: SHARE * study.accuracy(run) for seed, run in base.items()}
        ways = {s: (_until(run, goals[s]), _until(theirs[s], goals[s])) for s, run in own.items()}
        saved = {seed: float(b - a) for seed, ((a, _), (b, _)) in ways.items()}
        one = weigh(facet, saved, above(float(_step(next(iter(base.values()))))), len(places))
        mine, its = (fmean(way[i][0] for way in ways.values()) for i in (0, 1))
        saving = f"{one.interval.mean:+.1f} saved {ends(one.interval, '{:+.1f}'.format)}"
        text = f"{mine:.1f} rounds against {other}'s {its:.1f}: {saving}"
        for i, name in ((0, ""), (1, f" of {other}")):
            if never := sum(not way[i][1] for way in ways.values()):
                text += f"; {never} of {len(ways)} runs{name} never got there and count as their last round"
        evidence.append(one.saying(text.replace("-", "−")))
    return evidence


def _until(run: RunRecord, goal: float) -> tuple[int, bool]:
    """Rounds until the goal, and whether it was reached; else all that there are."""
    found = first_reaching(run, goal)
    return (run.rounds[-1].round if run.rounds else 0, False) if found is None else (found, True)


def variance(study: Study) -> list[Claim]:
    """Variance of the global step relative to FedAvg's: over the coordinates that are alive, and over all of them."""
    says = "Lower variance of weight updates than FedAvg (Fig. 3)"
    return [
        _variance(
            study,
            "variance-living",
            f"{says}: over the coordinates that are alive.",
            "Variance of the global step over the coordinates that are alive",
            lambda entry: entry.update_variance,
            "The weights that are left are scaled up, which raises this variance; pruned ones are not in it.",
        ),
        _variance(
            study,
            "variance-all",
            f"{says}: over all coordinates, pruned ones too.",
            "Variance of the global step over all coordinates, a pruned one counting as a step of zero",
            lambda entry: entry.update_variance_all,
            "Any pruning lowers this variance, because a pruned weight counts as a step of zero.",
            between=True,
        ),
    ]


def _variance(
    study: Study, slug: str, says: str, what: str, read: Read, remark: str, *, between: bool = False
) -> Claim:
    """``between``: the variance between clients, which is over all coordinates, is told too."""
    measured = (
        f"{what}, ratio to FedAvg's at the same seed (geometric mean over rounds), without attack. Holds when the "
        f"ratio is under 1 in every partition; does not hold when one is certainly over {1 - LEAST_RATIO:g}."
    )
    found = _runs(study)
    places = [place for place in found if _alike(*place[1:])]
    apart = [facet for facet, own, base in found if not _alike(own, base)]
    evidence = []
    for facet, own, base in places:
        falls = _falls(own, base, read)
        if not falls:
            continue
        one = weigh(facet, falls, above(-math.log(1 - LEAST_RATIO)), len(places))
        text = f"{_times(-one.interval.mean)} times FedAvg's {_ratios(one.interval)}"
        if between and (clients := _falls(own, base, lambda entry: entry.client_variance)):
            text += f"; between clients {_times(-sum(clients.values()) / len(clients))} times"
        evidence.append(one.saying(text))
    noisy = [
        (mean_interval(list(falls.values())), place)
        for place, own, base in _runs(study, noisy=True)
        if _alike(own, base) and (falls := _falls(own, base, read))
    ]
    notes = [remark, *([f"Under noisy clients, not part of the answer: {_under_noise(noisy)}."] if noisy else [])]
    if apart:
        notes.append(
            f"Not compared where the two train at different rates, since steps grow with them: {some(apart, 4)}."
        )
    needs = "" if evidence else RATES if apart else BOTH
    if not evidence and any(e.update_variance > 0 for _, own, _ in places for run in own.values() for e in run.rounds):
        needs = "These records are from a version that did not record it: run the sweep again in a new folder."
    return Claim(slug, says, measured, conclude(evidence), tuple(evidence), needs, tuple(notes))


def _under_noise(noisy: list[tuple[Interval, str]]) -> str:
    """Of up to three conditions each, of more the least and the most."""
    told = [f"{_times(-interval.mean)} times at {place} {_ratios(interval)}" for interval, place in noisy]
    if len(told) <= 3:
        return "; ".join(told)
    order = sorted(range(len(noisy)), key=lambda one: -noisy[one][0].mean)
    return f"from {told[order[0]]} to {told[order[-1]]}, in {len(told)} conditions"


def _alike(own: Runs, base: Runs) -> bool:
    """Whether both train with the same settings: tuned ones may not, and a step grows with the learning rate."""
    return all(run.config.get("training") == base[seed].config.get("training") for seed, run in own.items())


def _runs(study: Study, noisy: bool = False) -> list[tuple[str, Runs, Runs]]:
    """Place, AutoFLIP's runs and FedAvg's by seed, where both ran: without attack, or under ``noisy`` clients."""
    own = subject(study)
    if own is None or study.baseline is None:
        return []
    found = []
    for condition in study.conditions:
        kind = study.attacks[condition.attack]["kind"]
        if kind != ("gaussian_noise" if noisy else "none"):
            continue
        mine, theirs = ({r.seed: r for r in study.runs(condition, a)} for a in (own, study.baseline))
        shared = sorted(set(mine) & set(theirs))
        if shared:
            place = str(condition) if noisy else condition.facet
            found.append((place, {s: mine[s] for s in shared}, {s: theirs[s] for s in shared}))
    return found


def _step(run: RunRecord) -> int:
    """Rounds between evaluations: what the count of rounds can resolve."""
    seen = [e.round for e in run.rounds if e.test_accuracy is not None]
    return max((b - a for a, b in pairwise(seen)), default=1)


def _falls(own: Runs, base: Runs, read: Read) -> dict[int, float]:
    """Seed -> mean over rounds of log(FedAvg's / own): positive is lower. A round without a step has no logarithm."""
    found = {}
    for seed, run in own.items():
        pairs = [(read(a), read(b)) for a, b in zip(run.rounds, base[seed].rounds, strict=False)]
        logs = [math.log(b / a) for a, b in pairs if a and b]  # None: a record of an earlier version
        if logs:
            found[seed] = sum(logs) / len(logs)
    return found


def _ratios(interval: Interval) -> str:
    """Of logarithms of what falls: the upper end is the smaller ratio."""
    return ends(replace(interval, low=interval.high, high=interval.low), lambda end: _times(-end))


def _times(log_ratio: float) -> str:
    """A ratio with two digits after the point, or two that count where those would be lost.

    >>> _times(math.log(3.427)), _times(math.log(0.00712)), _times(math.log(0.1))
    ('3.43', '0.0071', '0.10')
    """
    ratio = math.exp(log_ratio)
    return f"{ratio:.2f}" if ratio >= 0.0995 else f"{ratio:.2g}"
