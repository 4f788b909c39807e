"""Degradation curves: accuracy against the strength of an attack, everything else of it fixed (Fig. 9 and 10)."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from autoflip_secure.reports.figures.drawing import (
    COLUMNS,
    ROWS,
    Line,
    dodge,
    draw_curves,
    fit_groups,
    fitting,
    label_ends,
    left_out,
    on_demand,
    seeds_note,
    slug,
    spoken_for,
)
from autoflip_secure.reports.figures.style import Palette, Picture, finish, panels, percent
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.labels import NO_ATTACK, SHARES, STRENGTHS
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.study.sweep_curves import Curve, axis_words, curves
from autoflip_secure.reports.tables.text import Table, percents

_UNEVEN = " Where labels would run into each other, strengths are evenly spaced and not to scale."


def degradation(study: Study, palette: Palette) -> list[Picture]:
    """One figure per attack parameter: accuracy against its strength, a column per facet, a row per fixed rest."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves(study):
        groups.setdefault((curve.kind, curve.parameter), []).append(curve)
    order = sorted(groups, key=lambda key: (key[0] != "gaussian_noise", key[0], key[1] == "scope", key[1]))
    draws = [partial(_degradation, study, palette, *key, groups[key]) for key in order]
    return [picture for draw in draws if (picture := on_demand(study, draw)) is not None]


def _degradation(
    study: Study, palette: Palette, kind: str, parameter: str, group: list[Curve], names: list[str]
) -> Picture:
    group = sorted(group, key=lambda c: -len(c.levels))
    drawn, facets = sorted(group[:ROWS], key=group.index), list(study.facets)[:COLUMNS]
    figure, axes = panels(len(drawn), len(facets), height=2.5, share_y=False, wide=len(facets) > 1)
    rows: list[list[Any]] = []
    everything: list[Line] = []
    by_facet: list[list[Line]] = [[] for _ in facets]
    ends: dict[Axes, dict[str, tuple[float, float]]] = {}
    words, moved = axis_words(kind, parameter), False
    for i, curve in enumerate(drawn):
        clean = [(0.0, NO_ATTACK)] if parameter in STRENGTHS and NO_ATTACK in study.attacks else []
        for j, facet in enumerate(facets):
            ax = axes[i, j]
            levels = clean + curve.levels
            ticks = [_tick(x, parameter) for x, _ in levels]
            at = _places([x for x, _ in levels], ticks, len(facets))
            moved = moved or at != [x for x, _ in levels]
            lines = {
                a: [
                    (p, list(v.values()))
                    for (_, c), p in zip(levels, at, strict=True)
                    if (v := study.values(Condition(facet, c), a))
                ]
                for a in names
            }
            real = dict(zip(at, levels, strict=True))
            for algorithm, line in lines.items():
                for place, values in line:
                    interval = mean_interval(values, share=True)
                    strength, attack = real[place]
                    rows.append([facet, curve.fixed, attack, algorithm, strength, *percents(interval), interval.n])
            lines = {a: line for a, line in lines.items() if len(line) > 1}
            draw_curves(ax, palette, lines)
            everything += lines.values()
            by_facet[j] += lines.values()
            beside = dodge(lines)
            ends[ax] = {a: (n[-1][0] + beside[a], float(np.mean(n[-1][1]))) for a, n in lines.items()}
            ax.set_xticks(at, ticks)
            percent(ax)
            ax.set_title(fitting(facet if len(drawn) == 1 else f"{facet} · {curve.fixed}", len(facets)))
            if i == len(drawn) - 1:
                ax.set_xlabel(f"{words} (%)" if parameter in SHARES else words)
        axes[i, 0].set_ylabel(study.measured)
    cut, apart = fit_groups([([*axes[:, j]], lines) for j, lines in enumerate(by_facet)])
    shown = [a for a in names if any(a in found for found in ends.values())]
    label_ends(figure, palette, [ends.get(row[-1], {}) for row in axes], axes[:, -1], shown)
    fixed = f" ({drawn[0].fixed})" if len(drawn) == 1 and drawn[0].fixed else ""
    caption = f"{study.measured.capitalize()} against the {words}{fixed}. {seeds_note(everything)}{cut}"
    caption += (" Zero is no attack." if clean else "") + (_UNEVEN if moved else "")
    if words == "noise σ":
        relative = study.attacks[drawn[0].levels[0][1]].get("relative")
        unit = "norm of the noise, as a share of the update's own" if relative else "standard deviation on each weight"
        caption += f" σ: {unit}, in what a malicious client sends."
    lone = [a for a in names if a not in shown and any(r[3] == a for r in rows)]
    notes = [f"Run at one level only, so without a line (the table has it): {', '.join(lone)}."] if lone else []
    notes += apart + spoken_for(study, names)
    notes += left_out(len(group), len(drawn), "variants") + left_out(len(study.facets), len(facets), "settings")
    columns = ["facet", "fixed", "attack", "algorithm", parameter, "accuracy (%)", "low (%)", "high (%)", "seeds"]
    alt = f"Line charts: accuracy of {len(study.algorithms)} algorithms against the {words}. " + _extremes(
        study, drawn, facets
    )
    title = f"Accuracy against the {words}" if words.startswith("share") else f"Accuracy against {words}"
    return finish(figure, slug(f"degradation-{kind}-{parameter}"), title, caption, alt, Table(columns, rows), notes)


def _places(levels: list[float], ticks: list[str], columns: int) -> list[float]:
    """Where the levels stand: at their value, or evenly spaced when their labels would run into each other."""
    room = {1: 80, 2: 54, 3: 36}.get(columns, 25)  # characters along an axis, where so many stand beside each other
    for (low, left), (high, right) in pairwise(zip(levels, ticks, strict=True)):
        if room * (high - low) <= (levels[-1] - levels[0]) * (1 + (len(left) + len(right)) / 2):
            return [float(i) for i in range(len(levels))]
    return levels


def _extremes(study: Study, drawn: list[Curve], facets: list[str]) -> str:
    """The strongest level in words, for those who do not see the picture."""
    condition = Condition(facets[-1], drawn[0].levels[-1][1])
    parts = [
        f"{a} {labels.percent(float(np.mean(list(v.values()))))}"
        for a in study.algorithms
        if (v := study.values(condition, a))
    ]
    return f"At {condition}: {', '.join(parts)}." if parts else ""


def _tick(x: float, parameter: str) -> str:
    return f"{100 * x:g}" if parameter in SHARES else f"{x:g}"
