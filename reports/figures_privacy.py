"""What privacy costs: accuracy, detection and robustness against epsilon.

Epsilon is what the ledger proves for everything released and for the client that pays most: against the server where
that is proven, else against the public. Where nothing is proven there is no number to draw against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes

from autoflip_secure.record import RunRecord
from reports.drawing import (
    COLUMNS,
    LINES,
    ROWS,
    Line,
    draw_curves,
    fit_shares,
    left_out,
    seeds_note,
    spoken_for,
    spokesmen,
    values_and_intervals,
)
from reports.labels import NO_ATTACK, shorten
from reports.privacy_groups import Group, groups, tick
from reports.statistics import Interval, mean_interval
from reports.study import Condition, Study
from reports.style import Palette, Picture, Table, finish, panels, percent

ACROSS = 3  # panels beside each other where only the kind of privacy varies
Value = Callable[[RunRecord], float | None]


def utility(study: Study, palette: Palette) -> Picture | None:
    """Accuracy against epsilon, a column per attack, a row per kind of privacy."""
    caption = (
        "Final test accuracy against the epsilon that is proven for everything released, for the client that pays "
        "most; ∞ is the same run without privacy. "
    )
    return _curves(
        study,
        palette,
        lambda r: r.final_accuracy,
        list(study.attacks),
        ("privacy-utility", "Accuracy against epsilon", "test accuracy", caption),
        share=True,
    )


def detection(study: Study, palette: Palette) -> Picture | None:
    """Area under the ROC of the scores against epsilon."""
    caption = (
        "How well agreement scores tell bad participants from honest ones (AUC, 50 % is guessing) against epsilon: "
        "noise hides bad clients too. "
    )
    return _curves(
        study,
        palette,
        lambda r: r.detection.auc if r.detection is not None else None,
        [a for a in study.attacks if a != NO_ATTACK],
        ("privacy-detection", "Detection of bad clients against epsilon", "detection AUC", caption),
        share=True,
    )


def robustness(study: Study, palette: Palette) -> Picture | None:
    """What an attack costs, against epsilon: accuracy without it minus accuracy under it, at the same seed."""
    if NO_ATTACK not in study.attacks:
        return None
    rows = zip(study.cells["facet"], study.cells["algorithm"], study.cells["attack"], study.records, strict=True)
    clean: dict[tuple[str, str, int], float] = {}
    place: dict[str, tuple[str, str]] = {}
    for facet, algorithm, attack, record in rows:
        place[record.cell] = (facet, algorithm)
        if attack == NO_ATTACK:
            clean[facet, algorithm, record.seed] = record.final_accuracy

    def lost(record: RunRecord) -> float | None:
        before = clean.get((*place[record.cell], record.seed))
        return None if before is None else before - record.final_accuracy

    caption = (
        "Points of accuracy that an attack takes away, against epsilon: accuracy without attack minus accuracy under "
        "it, at the same seed and the same privacy. Lower is more robust. "
    )
    return _curves(
        study,
        palette,
        lost,
        [a for a in study.attacks if a != NO_ATTACK],
        ("privacy-robustness", "Robustness against epsilon", "points lost", caption),
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
    lines = {(group.title, attack): _lines(study, group, attack, names, value) for group in found for attack in attacks}
    attacks = [a for a in attacks if any(any(lines[g.title, a].values()) for g in found)]
    found = [g for g in found if any(any(lines[g.title, a].values()) for a in attacks)]
    if not found:
        return None
    rows, columns = found[:ROWS], attacks[:COLUMNS]
    if len(attacks) == 1:  # kinds of privacy beside each other
        rows, across = found[: ROWS * ACROSS], min(ACROSS, len(found))
        places = [(group, attacks[0], i // across, i % across) for i, group in enumerate(rows)]
    else:
        across = len(columns)
        places = [(group, attack, i, j) for i, group in enumerate(rows) for j, attack in enumerate(columns)]
    deep = 1 + max(i for _, _, i, _ in places)
    figure, axes = panels(deep, across, height=2.6, share_x=False, wide=across > 1)
    everything: list[Line] = []
    for ax in axes.flat:
        ax.set_visible(False)
    for group, attack, i, j in places:
        ax = axes[i, j]
        ax.set_visible(True)
        own = lines[group.title, attack]
        draw_curves(ax, palette, own, share=share)
        everything += own.values()
        ax.set_xticks(range(len(group.facets)), [tick(study, f) for f in group.facets])
        ax.set_xlim(-0.4, len(group.facets) - 0.6)
        percent(ax, signed=not share)
        part = group.title.split(" · ") if len(attacks) == 1 else [attack, *([group.title] if len(found) > 1 else [])]
        ax.set_title("\n".join(shorten(text, 40) for text in part), fontsize=8.5)
        ax.set_xlabel("epsilon")
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
                for place, seeds in line:
                    facet = group.facets[int(place)]
                    interval = mean_interval(seeds, share=share)
                    ends_ = [None if v is None else 100 * v for v in (interval.mean, interval.low, interval.high)]
                    table.append(
                        [group.title, attack, algorithm, tick(study, facet).replace("\n", " "), *ends_, interval.n]
                    )
    notes = left_out(len(found), len(rows), "kinds of privacy") + left_out(len(attacks), len(columns), "attacks")
    data = Table(["setting", "attack", "algorithm", "epsilon", f"{axis} (%)", "low", "high", "seeds"], table)
    alt = (
        f"{title}: {len(rows) * len(columns)} panels, {len(table)} points from {min(values):.2f} to {max(values):.2f}."
    )
    return finish(figure, slug, title, caption + seeds_note(everything) + cut, alt, data, notes + spoken_for(study))


def _fit_points(ax: Axes, values: Iterable[float], intervals: Iterable[Interval]) -> str:
    """Limits of an axis of differences: all single seeds and all bars, so that none is cut."""
    found = [*values, *(e for v in intervals for e in (v.low, v.high) if e is not None)]
    pad = 0.05 * (max(found) - min(found)) + 0.005
    ax.set_ylim(min(found) - pad, max(found) + pad)
    return ""


def _lines(study: Study, group: Group, attack: str, names: Sequence[str], value: Value) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for algorithm in names[:LINES]:
        line: Line = []
        for place, facet in enumerate(group.facets):
            seeds = [v for r in study.runs(Condition(facet, attack), algorithm) if (v := value(r)) is not None]
            if seeds:
                line.append((float(place), seeds))
        lines[algorithm] = line
    return lines
