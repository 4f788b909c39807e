"""Degradation curves: accuracy against the strength of an attack, everything else of it fixed (Fig. 9 and 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.drawing import COLUMNS, LINES, ROWS, draw_curve, is_number, left_out, percents, slug
from reports.labels import NO_ATTACK, STRENGTHS, canonical, number, setting, shorten
from reports.statistics import mean_interval
from reports.study import Condition, Study
from reports.style import Palette, Picture, Table, finish, panels, percent

_AXIS_WORDS = {
    ("gaussian_noise", "sigma"): "noise σ",
    ("gaussian_noise", "scope"): "share of the clients that send noise",
    ("label_flip", "share"): "share of a bad client's labels that is flipped",
    ("label_flip", "scope"): "share of the clients that flip labels",
}
_SHARES = ("scope", "share")


@dataclass(frozen=True)
class Curve:
    """Attacks that differ in one number only."""

    kind: str
    parameter: str
    fixed: str  # in words: what the others have in common and other curves do not
    levels: list[tuple[float, str]]  # (value, attack label), ascending, without the clean end


def curves(study: Study) -> list[Curve]:
    """Numeric attack parameters that vary while everything else of the attack is fixed.

    A parameter with only two levels beside one with more makes no curve of its own: its points lie on the others.
    """
    found: list[Curve] = []
    for kind in study.attack_kinds:
        configs = {name: a for name, a in study.attacks.items() if a["kind"] == kind}
        candidates: dict[str, list[Curve]] = {}
        for parameter in sorted({k for a in configs.values() for k, v in a.items() if is_number(v)}):
            groups: dict[str, list[str]] = {}
            for name, attack in configs.items():
                if is_number(attack.get(parameter)):
                    rest = {k: v for k, v in attack.items() if k != parameter}
                    groups.setdefault(canonical(rest), []).append(name)
            candidates[parameter] = [
                Curve(
                    kind,
                    parameter,
                    _fixed(configs[names[0]], parameter),
                    sorted((float(configs[n][parameter]), n) for n in names),
                )
                for names in groups.values()
                if len(names) > 1
            ]
        most = max((len(c.levels) for group in candidates.values() for c in group), default=0)
        for group in candidates.values():
            found += [c for c in group if len(c.levels) >= min(3, most)]
    return found


def _fixed(attack: dict[str, Any], parameter: str) -> str:
    words = []
    if "sigma" in attack and parameter != "sigma":
        words.append(f"σ {number(attack['sigma'])}")
    if "share" in attack and parameter != "share":
        words.append(f"{100 * attack['share']:.3g} % of labels")
    if parameter != "scope":
        named = attack.get("clients")
        words.append(f"{100 * attack.get('scope', 0):.3g} % of clients" if named is None else f"{len(named)} clients")
    return ", ".join(words)


def degradation(study: Study, palette: Palette) -> list[Picture]:
    """One figure per attack parameter: accuracy against its strength, a column per facet, a row per fixed rest."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves(study):
        groups.setdefault((curve.kind, curve.parameter), []).append(curve)
    order = sorted(groups, key=lambda key: (key[0] != "gaussian_noise", key[0], key[1] == "scope", key[1]))
    return [_degradation(study, palette, *key, groups[key]) for key in order]


def _degradation(study: Study, palette: Palette, kind: str, parameter: str, group: list[Curve]) -> Picture:
    group = sorted(group, key=lambda c: -len(c.levels))
    drawn, facets = sorted(group[:ROWS], key=group.index), list(study.facets)[:COLUMNS]
    figure, axes = panels(len(drawn), len(facets), height=2.5, wide=len(facets) > 1)
    rows: list[list[Any]] = []
    words = _AXIS_WORDS.get((kind, parameter), setting(parameter))
    for i, curve in enumerate(drawn):
        clean = [(0.0, NO_ATTACK)] if parameter in STRENGTHS and NO_ATTACK in study.attacks else []
        for j, facet in enumerate(facets):
            ax = axes[i, j]
            levels = clean + curve.levels
            for algorithm in study.algorithms[:LINES][::-1]:  # the first ones are drawn last, on top
                points = [
                    (x, mean_interval(list(values.values())))
                    for x, attack in levels
                    if (values := study.values(Condition(facet, attack), algorithm))
                ]
                draw_curve(ax, palette, algorithm, points)
                rows += [[facet, curve.fixed, algorithm, x, *percents(p), p.n] for x, p in points]
            ax.set_xticks([x for x, _ in levels], [_tick(x, parameter) for x, _ in levels])
            percent(ax)
            ax.set_title(shorten(facet) if len(drawn) == 1 else f"{shorten(facet, 22)} · {shorten(curve.fixed, 22)}")
            if i == len(drawn) - 1:
                ax.set_xlabel(words)
        axes[i, 0].set_ylabel("test accuracy")
    palette.legend(figure, [a for a in study.algorithms if any(r[2] == a for r in rows)])
    fixed = f" ({drawn[0].fixed})" if len(drawn) == 1 and drawn[0].fixed else ""
    caption = f"Final test accuracy against the {words}{fixed}. Points: mean over seeds; bars: 95 % t intervals."
    if clean:
        caption += " At zero nobody attacks."
    notes = left_out(len(study.algorithms), min(len(study.algorithms), LINES), "algorithms")
    notes += left_out(len(group), len(drawn), "settings") + left_out(len(study.facets), len(facets), "partitions")
    rows.sort(key=lambda r: (facets.index(r[0]), r[1], study.algorithms.index(r[2]), r[3]))
    columns = ["facet", "fixed", "algorithm", parameter, "accuracy (%)", "low (%)", "high (%)", "seeds"]
    alt = f"Line charts: accuracy of {len(study.algorithms)} algorithms against the {words}. " + _extremes(
        study, drawn, facets
    )
    title = f"Accuracy against the {words}" if words.startswith("share") else f"Accuracy against {words}"
    return finish(figure, slug(f"degradation-{kind}-{parameter}"), title, caption, alt, Table(columns, rows), notes)


def _extremes(study: Study, drawn: list[Curve], facets: list[str]) -> str:
    """The strongest level in words, for those who do not see the picture."""
    condition = Condition(facets[-1], drawn[0].levels[-1][1])
    parts = [
        f"{a} {100 * float(np.mean(list(v.values()))):.1f} %"
        for a in study.algorithms
        if (v := study.values(condition, a))
    ]
    return f"At {condition}: {', '.join(parts)}." if parts else ""


def _tick(x: float, parameter: str) -> str:
    return f"{100 * x:g} %" if parameter in _SHARES else f"{x:g}"
