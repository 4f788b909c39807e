"""Degradation in one number: area under the curve, breakdown point and worst case, beside those of the baseline.

Area and breakdown point (:mod:`.degradation_curve`) are taken along an attack parameter from zero, where none attacks;
the worst case is the lowest mean over the attacks (:func:`.worst_case`, :func:`.worst_difference`). The breakdown point
is a step of the swept grid. A seed that never leaves the margin is censored at the largest strength; the mean counts it
as that, so that with any such seed it is a lower bound, which the report says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.degradation_curve import area, breakdown
from autoflip_secure.reports.statistics.intervals import MARGIN, Interval, mean_interval
from autoflip_secure.reports.statistics.paired import Paired, Verdict, complete, paired
from autoflip_secure.reports.statistics.sample_size import unanimous
from autoflip_secure.reports.statistics.worst_case import worst_case
from autoflip_secure.reports.statistics.worst_difference import worst_difference
from autoflip_secure.reports.study.labels import NO_ATTACK, STRENGTHS
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.study.sweep_curves import Curve, axis_words, curves

LEAST_POINTS = 3  # on a curve, its clean end included; fewer make no curve


@dataclass(frozen=True)
class Measure:
    """One number of one algorithm over seeds, beside the baseline's on the same strengths and seeds."""

    value: Interval
    against: Paired | None  # None: it is the baseline, or there is none


@dataclass(frozen=True)
class Line:
    """One algorithm along one curve, or (``curve`` is None: only ``worst``) over all attacks of a facet."""

    facet: str
    curve: Curve | None
    over: str  # the curve in words
    algorithm: str
    grid: tuple[float, ...]  # strengths used, 0 = nobody attacks
    area: Measure | None
    breakdown: Measure | None
    worst: Measure | None
    unbroken: int  # seeds that never left the margin
    note: str  # what is not as in the other rows


def degradations(study: Study) -> list[Line]:
    """All lines, facet by facet, curve by curve, then all attacks; all of their differences are one family."""
    lines: list[Line] = []
    found = [c for c in curves(study) if c.parameter in STRENGTHS]
    for facet in study.facets:
        swept = [c for c in found if _cells(study, facet, _levels(c), study.baseline or study.algorithms[0])]
        for curve in swept:
            own = [_along(study, facet, curve, algorithm) for algorithm in study.algorithms]
            if any(line is not None and line.area is not None for line in own):
                lines += [line for line in own if line is not None]
        attacks = [c for c in study.conditions if c.facet == facet and study.attacks[c.attack]["kind"] != "none"]
        if len(attacks) > 1:
            lines += [x for a in study.algorithms if (x := _over_all(study, facet, attacks, a)) is not None]
    return _corrected(lines)


def _levels(curve: Curve) -> list[tuple[float, str]]:
    return [(0.0, NO_ATTACK), *(level for level in curve.levels if level[0] != 0)]


def _cells(
    study: Study, facet: str, levels: Sequence[tuple[float, str]], algorithm: str
) -> dict[tuple[float, str], dict[int, float]]:
    """Level -> seed -> accuracy, for the levels that were run."""
    found = {level: study.values(Condition(facet, level[1]), algorithm) for level in levels}
    return {level: values for level, values in found.items() if values}


def _along(study: Study, facet: str, curve: Curve, algorithm: str) -> Line | None:
    levels = _levels(curve)
    own, base = (_cells(study, facet, levels, a) for a in (algorithm, study.baseline or algorithm))
    both = {x: {s: v for s, v in own[x].items() if s in base[x]} for x in own if x in base}
    used, seeds = complete(both)
    if not used:
        return None
    grid = tuple(x for x, _ in used)
    fits = len(used) >= LEAST_POINTS and grid[0] == 0
    full = complete(base)[0]
    note = ""
    if not fits:
        note = f"run at too few strengths for a curve ({_numbers(grid)})"
    elif len(used) < len(full):
        note = f"at {_numbers(grid)} only, both algorithms"
    mine, theirs = ({s: [cells[x][s] for x in used] for s in seeds} for cells in (own, base))
    paired_with = study.baseline if algorithm != study.baseline else None
    tried = [{c: {s: cells[x, c][s] for s in seeds} for x, c in used[1:]} for cells in (own, base)] if fits else None
    areas = [{s: area(grid, y) for s, y in side.items()} for side in (mine, theirs)] if fits else None
    broken = [{s: breakdown(grid, y) for s, y in side.items()} for side in (mine, theirs)] if fits else None
    points = [{s: at for s, (at, _) in side.items()} for side in broken] if broken else None
    return Line(
        facet,
        curve,
        f"{axis_words(curve.kind, curve.parameter)} ({curve.fixed})",
        algorithm,
        grid,
        _measure(areas, paired_with),
        _measure(points, paired_with, top=grid[-1], margin=0.0),
        _worst(tried, paired_with),
        sum(not left for _, left in broken[0].values()) if broken else 0,
        note,
    )


def _over_all(study: Study, facet: str, attacks: list[Condition], algorithm: str) -> Line | None:
    own = {c: study.values(c, algorithm) for c in attacks}
    base = {c: study.values(c, study.baseline or algorithm) for c in attacks}
    used, seeds = complete({c: {s: v for s, v in own[c].items() if s in base[c]} for c in attacks})
    if len(used) < 2:
        return None
    tried = [{c.attack: {s: cells[c][s] for s in seeds} for c in used} for cells in (own, base)]
    note = f"{len(used)} of {len(attacks)} attacks, both algorithms" if len(used) < len(attacks) else ""
    measure = _worst(tried, study.baseline if algorithm != study.baseline else None)
    return Line(facet, None, f"all {len(attacks)} attacks", algorithm, (), None, None, measure, 0, note)


def _measure(
    sides: list[dict[int, float]] | None, baseline: str | None, *, top: float = 1.0, margin: float = MARGIN
) -> Measure | None:
    """``sides``: the algorithm's and the baseline's value per seed. Values lie in [0, ``top``], and so do intervals."""
    if sides is None:
        return None
    mine, theirs = sides
    value = mean_interval(list(mine.values()))
    if value.low is not None and value.high is not None:
        value = replace(value, low=max(0.0, value.low), high=min(top, value.high))
    return Measure(value, None if baseline is None else paired(mine, theirs, margin=margin))


def _worst(tried: list[dict[str, dict[int, float]]] | None, baseline: str | None) -> Measure | None:
    """``tried``: attack -> seed -> accuracy, of the algorithm and of the baseline."""
    if tried is None:
        return None
    mine, theirs = tried
    return Measure(worst_case(mine).accuracy, None if baseline is None else worst_difference(mine, theirs))


def _stepwise(pair: Paired | None) -> Paired | None:
    """Breakdown points are steps of a grid: that all seeds share a step says "equal" only from enough seeds on."""
    if pair is None or pair.verdict is not Verdict.EQUAL or pair.difference.n >= unanimous():
        return pair
    return replace(pair, verdict=Verdict.CANNOT_TELL, seeds_needed=unanimous())


def _corrected(lines: list[Line]) -> list[Line]:
    names = ("area", "breakdown", "worst")
    measures = [getattr(line, name) for line in lines for name in names]
    pairs = iter(corrected([measure.against if measure else None for measure in measures]))
    found = []
    for line in lines:
        area, broken, worst = (
            None if measure is None else replace(measure, against=pair)
            for measure, pair in zip((line.area, line.breakdown, line.worst), islice(pairs, len(names)), strict=True)
        )
        broken = None if broken is None else replace(broken, against=_stepwise(broken.against))
        found.append(replace(line, area=area, breakdown=broken, worst=worst))
    return found


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)
