"""Sensitivity: accuracy against a setting that varies: T_p (Fig. 12), explorers (Fig. 11), a partition's α."""

from __future__ import annotations

from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import leaves, without
from autoflip_secure.reports.figures.drawing import (
    COLUMNS,
    SEEDS_FOR_BARS,
    Group,
    Line,
    draw_curves,
    fit_groups,
    fitting,
    left_out,
    seeds_note,
    slug,
    spoken_for,
    spokesmen,
)
from autoflip_secure.reports.figures.marks import belonging
from autoflip_secure.reports.figures.style import Palette, Picture, finish, panels, percent
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.labels import axis_words, is_number, pretty, setting
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.tables.text import Table, percents


def sensitivity(study: Study, palette: Palette) -> list[Picture]:
    """One figure per numeric setting that varies and is no attack's: T_p, explorers, the α of a partition, …"""
    pictures = []
    for path in _settings(study.variants.values()):
        pictures.append(_of_algorithm(study, palette, path))
    for path in _settings(leaves(f) for f in study.facets.values()):
        pictures.append(_of_facet(study, palette, path))
    return [p for p in pictures if p is not None]


def _settings(configs: Any) -> list[str]:
    values: dict[str, set[float]] = {}
    for flat in configs:
        for path, value in flat.items():
            if is_number(value):
                values.setdefault(path.replace(".like.", "."), set()).add(value)
    return [path for path, found in values.items() if len(found) > 1]


def _like(path: str) -> str:
    """Where a random pruner keeps the setting of the pruner that it imitates."""
    return path.replace(".pruner.", ".pruner.like.")


def _of_algorithm(study: Study, palette: Palette, path: str) -> Picture | None:
    """A line per family over its variants that differ in ``path`` alone; the baseline is a level line."""
    groups: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for algorithm, flat in study.variants.items():
        own = next((p for p in (path, _like(path)) if is_number(flat.get(p))), None)
        if own is not None:
            rest = canonical(without(flat, own))
            groups.setdefault((study.families[algorithm], rest), []).append((float(flat[own]), algorithm))
    longest: dict[str, list[tuple[float, str]]] = {}
    for (family, _), group in groups.items():
        if len(group) > max(1, len(longest.get(family, []))):
            longest[family] = sorted(group)

    def lines(condition: Condition) -> dict[str, Line]:
        return {
            pretty(family): [(x, list(v.values())) for x, a in group if (v := study.values(condition, a))]
            for family, group in longest.items()
        }

    return _sensitivity(study, palette, path, {str(c): (c, lines(c)) for c in study.conditions}, baseline=True)


def _of_facet(study: Study, palette: Palette, path: str) -> Picture | None:
    """Lines over facets that differ in ``path`` alone, a panel per attack."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for facet, config in study.facets.items():
        flat = leaves(config)
        if is_number(flat.get(path)):
            rest = canonical(without(flat, path))
            groups.setdefault(rest, []).append((float(flat[path]), facet))
    longest: list[tuple[float, str]] = max(groups.values(), key=len, default=[])
    group = sorted(longest)

    def lines(attack: str) -> dict[str, Line]:
        return {
            a: [(x, list(v.values())) for x, f in group if (v := study.values(Condition(f, attack), a))]
            for a in spokesmen(study)
        }

    places = {attack: (Condition(group[0][1], attack), lines(attack)) for attack in study.attacks if group}
    return _sensitivity(study, palette, path, places, baseline=False)


def _sensitivity(
    study: Study,
    palette: Palette,
    path: str,
    places: dict[str, tuple[Condition, dict[str, Line]]],
    *,
    baseline: bool,
) -> Picture | None:
    """A panel per place (title -> condition and lines)."""
    found = {title: place for title, place in places.items() if any(len(line) > 1 for line in place[1].values())}
    shown = list(found.items())[: COLUMNS * 2]
    if not shown:
        return None
    columns = 2 if len(shown) in (2, 4) else min(3, len(shown))
    figure, axes = panels(
        -(-len(shown) // columns), columns, height=2.5, share_x=False, share_y=False, wide=columns > 1
    )
    rows: list[list[Any]] = []
    everything: list[Line] = []
    groups: list[Group] = []
    names: dict[str, None] = {}
    for ax, (title, (condition, lines)) in zip(axes.flat, shown, strict=False):
        draw_curves(ax, palette, lines)
        own = [*lines.values()]
        groups.append(([ax], own))
        everything += own
        for name, line in lines.items():
            names |= {name: None} if line else {}
            intervals = [(x, mean_interval(values, share=True)) for x, values in line]
            rows += [[title, name, x, *percents(i), i.n] for x, i in intervals]
        base = list(study.values(condition, study.baseline).values()) if baseline and study.baseline else []
        if base and study.baseline:
            level = mean_interval(base, share=True)
            own.append([(0.0, base)])
            colour = palette.colours[study.baseline]
            with belonging(ax, study.baseline):
                ax.axhline(level.mean, color=colour, lw=1.6, ls=(0, (4, 2)))
                if level.low is not None and level.high is not None and level.n >= SEEDS_FOR_BARS:
                    ax.axhspan(level.low, level.high, color=colour, alpha=0.15, lw=0)
            rows.append([title, study.baseline, "any", *percents(level), level.n])
        ax.set_title(fitting(title, columns))
        ax.set_xlabel(axis_words(path))
        levels = sorted({x for line in lines.values() for x, _ in line})
        ax.set_xticks(levels, [f"{x:g}" for x in levels])
        percent(ax)
    cut, apart = fit_groups(groups)
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel(study.measured)
    has_base = study.baseline is not None and any(r[2] == "any" for r in rows)
    base_name = [study.baseline] if has_base and study.baseline else []
    palette.legend(figure, base_name + list(names), dashed=base_name)
    caption = f"{study.measured.capitalize()} against {setting(path)} ({path}). {seeds_note(everything)}{cut}"
    caption += f" The dashed line is {study.baseline}, which has no such setting." if has_base else ""
    header = ["condition", "algorithm", setting(path), "accuracy (%)", "low (%)", "high (%)", "seeds"]
    notes = apart + left_out(len(found), len(shown), "conditions")
    notes += [] if baseline else spoken_for(study)
    alt = f"Line charts: accuracy against {setting(path)} in {len(shown)} conditions."
    title = f"Sensitivity to {setting(path)}"
    return finish(figure, slug(f"sensitivity-{path}"), title, caption, alt, Table(header, rows), notes)
