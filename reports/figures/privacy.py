"""What privacy costs: accuracy, detection and robustness against epsilon.

Epsilon is what the ledger proves for everything released and for every honest client, against whoever sees most of
those against whom anything is proven. Runs of which nothing is proven stand at "no guarantee", whatever was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes

from autoflip_secure.records.proven import who
from autoflip_secure.records.rounding import upper_delta
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.drawing import (
    COLUMNS,
    LINES,
    ROWS,
    SEEDS_FOR_BARS,
    Line,
    draw_curves,
    fit_shares,
    left_out,
    seeds_note,
    spoken_for,
    spokesmen,
    values_and_intervals,
)
from autoflip_secure.reports.figures.style import Palette, Picture, finish, panels, percent
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.labels import NO_ATTACK, shorten
from autoflip_secure.reports.study.privacy_groups import Group, Place, groups, places, runs_at, terms
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table, Upper, percents

ACROSS = 3  # panels beside each other where only the kind of privacy varies
Value = Callable[[RunRecord], float | None]


def utility(study: Study, palette: Palette) -> Picture | None:
    """Accuracy against epsilon, a column per attack, a row per kind of privacy."""
    caption = (
        f"{study.measured.capitalize()} against the epsilon that is proven for everything released; ∞ is the same run "
        "without privacy. "
    )
    return _curves(
        study,
        palette,
        study.accuracy,
        list(study.attacks),
        ("privacy-utility", "Accuracy against epsilon", study.measured, caption),
        share=True,
    )


def detection(study: Study, palette: Palette) -> Picture | None:
    """Area under the ROC of the scores against epsilon."""
    caption = (
        "How well agreement scores tell malicious participants from honest ones (AUC, 50 % is guessing) against "
        "epsilon: noise hides malicious clients too. "
    )
    return _curves(
        study,
        palette,
        lambda r: r.detection_auc,
        [a for a in study.attacks if a != NO_ATTACK],
        ("privacy-detection", "Detection of malicious clients against epsilon", "detection AUC", caption),
        share=True,
    )


def robustness(study: Study, palette: Palette) -> Picture | None:
    """What an attack costs, against epsilon: accuracy without it minus accuracy under it, at the same seed."""
    if NO_ATTACK not in study.attacks:
        return None
    clean: dict[tuple[str, str, int], float] = {}
    place: dict[str, tuple[str, str]] = {}
    for row, record in study.rows:
        place[record.cell] = (row.facet, row.algorithm)
        if row.attack == NO_ATTACK:
            clean[row.facet, row.algorithm, record.seed] = study.accuracy(record)

    def lost(record: RunRecord) -> float | None:
        before = clean.get((*place[record.cell], record.seed))
        return None if before is None else before - study.accuracy(record)

    caption = (
        "Points of accuracy that an attack costs, against epsilon: accuracy without attack minus accuracy under it, "
        "at the same seed and the same privacy. Lower is more robust. "
    )
    return _curves(
        study,
        palette,
        lost,
        [a for a in study.attacks if a != NO_ATTACK],
        ("privacy-robustness", "Robustness against epsilon", "points of accuracy lost", caption),
        share=False,
    )


def _curves(
    study: Study,
    palette: Palette,
    value: Value,
    attacks: Sequence[str],
    words: tuple[str, str, str, str],
    *,
    share: bool,
) -> Picture | None:
    slug, title, axis, caption = words
    found = groups(study)
    names = spokesmen(study)
    stands = {group.title: _with_values(study, group, attacks, names, value) for group in found}
    lines = {
        (group.title, attack): _lines(study, stands[group.title], attack, names, value)
        for group in found
        for attack in attacks
    }
    attacks = [a for a in attacks if any(any(lines[g.title, a].values()) for g in found)]
    found = [g for g in found if any(any(lines[g.title, a].values()) for a in attacks)]
    if not found:
        return None
    rows, columns = found[:ROWS], attacks[:COLUMNS]
    if len(attacks) == 1:  # kinds of privacy beside each other
        rows, across = found[: ROWS * ACROSS], min(ACROSS, len(found))
        slots = [(group, attacks[0], i // across, i % across) for i, group in enumerate(rows)]
    else:
        across = len(columns)
        slots = [(group, attack, i, j) for i, group in enumerate(rows) for j, attack in enumerate(columns)]
    deep = 1 + max(i for _, _, i, _ in slots)
    figure, axes = panels(deep, across, height=2.6, share_x=False, wide=across > 1)
    everything: list[Line] = []
    for ax in axes.flat:
        ax.set_visible(False)
    for group, attack, i, j in slots:
        ax, own, along = axes[i, j], lines[group.title, attack], stands[group.title]
        ax.set_visible(True)
        draw_curves(ax, palette, own, share=share)
        everything += own.values()
        ax.set_xticks(range(len(along)), ticks(along))
        ax.set_xlim(-0.4, len(along) - 0.6)
        percent(ax, signed=not share)
        part = group.title.split(" · ") if len(attacks) == 1 else [attack, *([group.title] if len(found) > 1 else [])]
        ax.set_title("\n".join(shorten(text, 40) for text in part), fontsize=8.5)
        ax.set_xlabel(across_label(along))
        if j == 0:
            ax.set_ylabel(axis)
    values, intervals = values_and_intervals(everything, share=share)
    fit = fit_shares if share else _fit_points
    cut = fit(axes[0, 0], values, intervals)  # panels share their y axis
    palette.legend(
        figure, [a for a in names if any(line for own in lines.values() for n, line in own.items() if n == a)]
    )
    table: list[list[Any]] = []
    for group in found:
        for attack in attacks:
            for algorithm, line in lines[group.title, attack].items():
                for at, seeds in line:
                    interval = mean_interval(seeds, share=share)
                    place = _stand(stands[group.title][int(at)])
                    table.append([group.title, attack, algorithm, *place, *percents(interval), interval.n])
    notes = left_out(len(found), len(rows), "kinds of privacy") + left_out(len(attacks), len(columns), "attacks")
    named = ["setting", "attack", "algorithm", "guarantee", "epsilon", "against", "neighbours", "delta"]
    data = Table([*named, f"{axis} (%)", "low", "high", "seeds"], table)
    alt = (
        f"{title}: {len(rows) * len(columns)} panels, {len(table)} points from {min(values):.2f} to {max(values):.2f}."
    )
    proven = terms(place for group in found for place in stands[group.title])
    caption += f"{proven} " if proven else "Nothing is proven about any of these runs. "
    return finish(figure, slug, title, caption + seeds_note(everything) + cut, alt, data, notes + spoken_for(study))


def _with_values(study: Study, group: Group, attacks: Sequence[str], names: Sequence[str], value: Value) -> list[Place]:
    """The places of a group at which there is anything to draw."""
    return [
        place
        for place in places(study, group)
        if any(value(r) is not None for a in attacks for name in names for r in runs_at(study, place, a, name))
    ]


def ticks(along: Sequence[Place]) -> list[str]:
    """One label per place; each with its observer where there are several."""
    observers = {place.bound.observer for place in along if place.bound is not None}
    return [
        f"{place.tick}\n{place.bound.observer}" if place.bound is not None and len(observers) > 1 else place.tick
        for place in along
    ]


def across_label(along: Sequence[Place]) -> str:
    """What the axis counts: the proven epsilon, against whom where that is one observer, for which neighbours."""
    bounds = [place.bound for place in along if place.bound is not None]
    observers, relations = ({getattr(b, name) for b in bounds} for name in ("observer", "relation"))
    if not bounds:
        return "proven epsilon"
    against = f" against {who(bounds[0].observer)}" if len(observers) == 1 else ""
    delta = upper_delta(max(b.delta for b in bounds))
    return f"proven epsilon{against}\n{' or '.join(sorted(relations))}, δ = {delta}"


def _stand(place: Place) -> list[Any]:
    """Guarantee, epsilon, observer, neighbours and delta of a place, for a table."""
    if place.bound is None:
        return ["no guarantee" if place.private else "no privacy", *[None] * 4]
    b = place.bound
    return ["proven", Upper(b.epsilon), who(b.observer), b.relation, Upper(b.delta)]


def _fit_points(ax: Axes, values: Iterable[float], intervals: Iterable[Interval]) -> str:
    """Limits of an axis of differences: all single seeds and all bars that are drawn, so that none is cut."""
    drawn = [one for one in intervals if one.n >= SEEDS_FOR_BARS]
    found = [*values, *(end for one in drawn for end in (one.low, one.high) if end is not None)]
    pad = 0.05 * (max(found) - min(found)) + 0.005
    ax.set_ylim(min(found) - pad, max(found) + pad)
    return ""


def _lines(study: Study, along: Sequence[Place], attack: str, names: Sequence[str], value: Value) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for algorithm in names[:LINES]:
        line: Line = []
        for at, place in enumerate(along):
            seeds = [v for r in runs_at(study, place, attack, algorithm) if (v := value(r)) is not None]
            if seeds:
                line.append((float(at), seeds))
        lines[algorithm] = line
    return lines
