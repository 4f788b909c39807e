"""Sensitivity: accuracy against a setting that varies: T_p (Fig. 12), explorers (Fig. 11), a partition's α."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.drawing import COLUMNS, draw_curve, is_number, left_out, percents, slug
from reports.labels import canonical, leaves, setting, shorten
from reports.statistics import Interval, mean_interval
from reports.study import Condition, Study
from reports.style import Palette, Picture, Table, finish, panels, percent


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
    """Lines over the variants of a family that differ in ``path`` alone; the baseline is a level line."""
    lines: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for algorithm, flat in study.variants.items():
        own = next((p for p in (path, _like(path)) if is_number(flat.get(p))), None)
        if own is not None:
            rest = canonical({k: v for k, v in flat.items() if k != own})
            lines.setdefault((study.families[algorithm], rest), []).append((float(flat[own]), algorithm))
    lines = {key: sorted(line) for key, line in lines.items() if len({x for x, _ in line}) > 1}
    if not lines:
        return None

    def intervals(condition: Condition) -> dict[str, list[tuple[float, Interval]]]:
        found: dict[str, list[tuple[float, Interval]]] = {}
        for n, ((family, _), line) in enumerate(lines.items()):
            points = [(x, mean_interval(list(v.values()))) for x, a in line if (v := study.values(condition, a))]
            found[f"{family}\n{n}"] = points
        return found

    return _sensitivity(study, palette, path, study.conditions, intervals, baseline=True)


def _of_facet(study: Study, palette: Palette, path: str) -> Picture | None:
    """Lines over facets that differ in ``path`` alone, a panel per attack and rest."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for facet, config in study.facets.items():
        flat = leaves(config)
        if is_number(flat.get(path)):
            rest = canonical({k: v for k, v in flat.items() if k != path})
            groups.setdefault(rest, []).append((float(flat[path]), facet))
    line = max(groups.values(), key=len, default=[])
    if len(line) < 2:
        return None

    def intervals(condition: Condition) -> dict[str, list[tuple[float, Interval]]]:
        return {
            f"{a}\n0": [
                (x, mean_interval(list(v.values())))
                for x, facet in sorted(line)
                if (v := study.values(Condition(facet, condition.attack), a))
            ]
            for a in study.algorithms
        }

    places = [Condition(line[0][1], attack) for attack in study.attacks]
    return _sensitivity(study, palette, path, places, intervals, baseline=False)


def _sensitivity(
    study: Study,
    palette: Palette,
    path: str,
    conditions: list[Condition],
    intervals: Callable[[Condition], dict[str, list[tuple[float, Interval]]]],
    *,
    baseline: bool,
) -> Picture | None:
    lines = {c: intervals(c) for c in conditions}
    found = {c: line for c, line in lines.items() if any(len(points) > 1 for points in line.values())}
    shown = list(found)[: COLUMNS * 2]
    if not shown:
        return None
    columns = min(3, len(shown))
    figure, axes = panels(-(-len(shown) // columns), columns, height=2.5, wide=columns > 1)
    rows: list[list[Any]] = []
    names: list[str] = []
    for ax, condition in zip(axes.flat, shown, strict=False):
        for key, points in found[condition].items():
            name = key.partition("\n")[0]
            label = next((a for a in study.algorithms if a == name), None) or _family_label(study, name)
            draw_curve(ax, palette, name, points)
            names += [name] if points and name not in names else []
            rows += [[str(condition) if baseline else condition.attack, label, x, *percents(p), p.n] for x, p in points]
        base = study.values(condition, study.baseline) if baseline and study.baseline else {}
        if base and study.baseline:
            level = mean_interval(list(base.values()))
            colour = palette.colours[study.baseline]
            ax.axhline(level.mean, color=colour, lw=1.6, ls=(0, (4, 2)))
            if level.low is not None and level.high is not None:
                ax.axhspan(level.low, level.high, color=colour, alpha=0.15, lw=0)
            rows.append([str(condition), study.baseline, "any", *percents(level), level.n])
        ax.set_title(shorten(str(condition) if baseline else condition.attack, 40))
        ax.set_xlabel(setting(path))
        percent(ax)
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("test accuracy")
    has_base = baseline and study.baseline is not None and any(r[1] == study.baseline for r in rows)
    palette.legend(figure, ([study.baseline] if has_base and study.baseline else []) + names)
    caption = f"Final test accuracy against {setting(path)} ({path}); mean and 95 % interval over seeds."
    caption += f" The dashed line and band are {study.baseline}, which has no such setting." if has_base else ""
    columns_ = ["condition", "algorithm", setting(path), "accuracy (%)", "low (%)", "high (%)", "seeds"]
    notes = left_out(len(found), len(shown), "conditions")
    alt = f"Line charts: accuracy against {setting(path)} in {len(shown)} conditions."
    return finish(
        figure,
        slug(f"sensitivity-{path}"),
        f"Sensitivity to {setting(path)}",
        caption,
        alt,
        Table(columns_, rows),
        notes,
    )


def _family_label(study: Study, family: str) -> str:
    labels = [a for a in study.algorithms if study.families[a] == family]
    return labels[0].partition(" · ")[0] if labels else family
