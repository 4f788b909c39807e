"""How accuracy falls as an attack grows, where a sweep has a curve of it: where it starts, and where it ends."""

from __future__ import annotations

from statistics import fmean

from autoflip_secure.reports.statistics.paired import complete
from autoflip_secure.reports.study.labels import NO_ATTACK, STRENGTHS, percent
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.study.sweep_curves import Curve, axis_words, curves
from autoflip_secure.terminal.counting import count_of

_STEPS = 3  # strengths that make a curve worth a sentence
_TOLD = 2  # curves


def sentences(study: Study) -> list[str]:
    """One per curve: of the baseline and the algorithms of the headline, over what all of them have at both ends."""
    if study.strata or NO_ATTACK not in study.attacks:
        return []
    found = [curve for curve in curves(study) if curve.parameter in STRENGTHS and len(curve.levels) >= _STEPS]
    return [text for curve in found[:_TOLD] if (text := _fall(study, curve))]


def _fall(study: Study, curve: Curve) -> str:
    names = list(dict.fromkeys(a for a in (study.baseline, *study.headline) if a is not None))
    strength, attack = curve.levels[-1]
    places = [Condition(facet, one) for facet in study.facets for one in (NO_ATTACK, attack)]
    found = {(name, place): study.values(place, name) for name in names for place in places}
    shared = {}
    for facet in study.facets:
        own = [set(values) for (_, place), values in found.items() if place.facet == facet]
        if seeds := set.intersection(*own):
            shared[facet] = dict.fromkeys(sorted(seeds), 0.0)
    facets, seeds_used = complete(shared)
    if not facets:
        return ""
    parts = []
    for name in names:
        first, last = (
            percent(fmean(found[name, Condition(facet, one)][seed] for facet in facets for seed in seeds_used))
            for one in (NO_ATTACK, attack)
        )
        parts.append(f"{name} {first} to {last}")
    over = f" (mean over {count_of(len(facets), 'setting')})" if len(facets) > 1 else ""
    words = axis_words(curve.kind, curve.parameter)
    return f"As {words} grows from 0 to {strength:g}, {curve.fixed}, accuracy goes from {'; '.join(parts)}{over}."
