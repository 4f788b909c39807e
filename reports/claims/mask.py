"""Claims about the mask: the guidance that it is cut from (Fig. 4), whole units (Fig. 5), refinement (Fig. 6)."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims.findings import Bound, Claim, above, conclude, weigh
from autoflip_secure.reports.claims.subjects import clean, subject
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.phrases import bracket

FIFTHS = 5
LEAST = 0.01  # share of units, or of weights, under which nothing worth mentioning goes
_NEEDS = "Add the algorithm autoflip, without attack."


def heavy_at_zero(study: Study) -> Claim:
    """The lowest fifth of the guidance holds more weights than any other."""
    return _claim(
        study,
        "heavy-at-zero",
        "Most weights have little guidance: its histogram is heaviest at zero (Fig. 4).",
        "Share of hidden weights in the lowest fifth of the guidance before round 1, minus that in the fullest other "
        "fifth, per seed. Holds when it is above zero in every partition; does not hold when it is certainly below in "
        "one.",
        Bound(0.0, 0.0),
        _lowest_fifth,
        "more in the lowest fifth than in the fullest other",
    )


def whole_units(study: Study) -> Claim:
    """Neurons or filters go as a whole."""
    return _claim(
        study,
        "whole-units",
        "Pruning is hybrid: weights go, and with their last connections whole neurons or filters (Fig. 5).",
        "Share of the hidden units without any weight left at the end of the run, per seed. Holds when it is above "
        f"zero in every partition; does not hold when it is certainly under {100 * LEAST:g} % in one.",
        above(LEAST),
        _units_gone,
        "of the hidden units are gone",
    )


def refinement(study: Study) -> Claim:
    """Low agreement takes weights that the first cut left."""
    return _claim(
        study,
        "refinement",
        "Weights go for low agreement too, after those that went for low importance (Fig. 6).",
        "Share of the hidden weights that is pruned after round 1, per seed. Holds when it is above zero in every "
        f"partition; does not hold when it is certainly under {100 * LEAST:g} % in one.",
        above(LEAST),
        lambda run: run.rounds[0].density - run.rounds[-1].density,
        "of the hidden weights go after round 1",
    )


def _lowest_fifth(run: RunRecord) -> float | None:
    if run.guidance is None:
        return None
    counts = run.guidance.initial_counts
    size = len(counts) // FIFTHS
    parts = [sum(counts[i * size : (i + 1) * size]) for i in range(FIFTHS)]
    return (parts[0] - max(parts[1:])) / max(1, sum(counts))


def _units_gone(run: RunRecord) -> float | None:
    """Of layers before the output layer, which keeps all of its units."""
    layers = [(layer.units, layer.live_units) for layer in run.layers[:-1] if layer.units is not None]
    total = sum(units for units, _ in layers)
    return sum(units - (live or 0) for units, live in layers) / total if total else None


def _claim(
    study: Study,
    slug: str,
    says: str,
    measured: str,
    bound: Bound,
    read: Callable[[RunRecord], float | None],
    what: str,
) -> Claim:
    own = subject(study)
    places = {}
    for facet in study.facets if own is not None else ():
        found = {r.seed: v for r in study.runs(clean(study, facet), own or "") if (v := read(r)) is not None}
        if found:
            places[facet] = found
    evidence = []
    for facet, values in places.items():
        one = weigh(facet, values, bound, len(places))
        text = f"{100 * fmean(values.values()):.1f} % {bracket(one.interval)} {what}"
        evidence.append(one.saying(text.replace("-", "−")))
    return Claim(slug, says, measured, conclude(evidence), tuple(evidence), "" if evidence else _NEEDS)
