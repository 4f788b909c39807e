"""What happens round by round: convergence (Fig. 7) and the variance of the weight updates (Fig. 3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.reports.figures.drawing import (
    SEEDS_FOR_BARS,
    draw_lines,
    fitting,
    label_ends,
    left_out,
    on_demand,
    spoken_for,
)
from autoflip_secure.reports.figures.marks import belonging
from autoflip_secure.reports.figures.style import Palette, Picture, finish, panels, percent, powers
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.labels import NO_ATTACK
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.tables.text import Table

COLUMNS, POINTS = 3, 40  # panels across and rounds drawn, at most


def convergence(study: Study, palette: Palette) -> Picture | None:
    """Test accuracy by round: without attack above, under the hardest attack below, a column per facet."""
    measured = study.measured.capitalize()
    return on_demand(
        study,
        lambda names: _by_round(
            study,
            names,
            palette,
            lambda r: r.test_accuracy,
            slug="convergence",
            title="Convergence",
            label=study.measured,
            caption=f"{measured} by round; mean over seeds, with a 95 % t interval from three seeds on.",
            scale=100.0,
        ),
    )


def update_variance(study: Study, palette: Palette) -> Picture | None:
    """Variance of the global step over the living coordinates, by round, on a logarithmic axis."""
    return on_demand(
        study,
        lambda names: _by_round(
            study,
            names,
            palette,
            lambda r: r.update_variance if r.update_variance > 0 else None,
            slug="update-variance",
            title="Variance of the weight updates",
            label="variance of the step",
            caption=(
                "Variance of the server's step over the coordinates that are alive, by round (logarithmic axis); mean "
                "over seeds. Over all coordinates it is in results.csv and among the claims."
            ),
            scale=1.0,
        ),
    )


def _by_round(
    study: Study,
    algorithms: list[str],
    palette: Palette,
    value: Callable[[RoundRecord], float | None],
    *,
    slug: str,
    title: str,
    label: str,
    caption: str,
    scale: float,
) -> Picture | None:
    accuracy = scale == 100.0
    facets = list(study.facets)[:COLUMNS]
    clean = [Condition(f, NO_ATTACK) for f in facets]
    grid = [[c for c in clean if c in study.conditions], [c for f in facets if (c := study.hardest(f))]]
    grid = [row for row in grid if row]
    lines = {
        (c, a): found
        for row in grid
        for c in row
        for a in algorithms
        if not (found := means_by_round(study.runs(c, a), value, share=accuracy)).empty
    }
    if not lines or max(map(len, lines.values())) < 2:
        return None
    figure, axes = panels(len(grid), max(len(row) for row in grid), height=2.3)
    rows: list[list[object]] = []
    for i, conditions in enumerate(grid):
        for ax, condition in zip(axes[i], conditions, strict=False):
            drawn = [a for a in algorithms[::-1] if (condition, a) in lines]  # the first ones last, on top
            frame = pd.concat(
                [lines[condition, a].assign(algorithm=a, said=_said(a, lines[condition, a], accuracy)) for a in drawn]
            )
            draw_lines(ax, palette, frame, drawn, markevery=max(1, int(frame["x"].nunique()) // 5))
            for a in drawn if accuracy else []:
                line = lines[condition, a]
                if (line["seeds"] >= SEEDS_FOR_BARS).all():
                    with belonging(ax, a):
                        ax.fill_between(
                            line["x"], line["low"], line["high"], color=palette.colours[a], alpha=0.13, lw=0
                        )
            for a in drawn[::-1]:
                for x, mean, low, high, seeds in lines[condition, a][["x", "mean", "low", "high", "seeds"]].to_numpy():
                    ends = [None if np.isnan(v) else float(v) * scale for v in (mean, low, high)]
                    rows.append([condition.facet, condition.attack, a, int(x), *ends, int(seeds)])
            if accuracy:
                percent(ax)
            else:
                ax.set_yscale("log")
                powers(ax)
            ax.set_title(fitting(f"{condition.facet} · {condition.attack}", axes.shape[1]))
        for ax in axes[i][len(conditions) :]:
            ax.set_visible(False)
        axes[i, 0].set_ylabel(label)
    for ax in axes[-1]:
        ax.set_xlabel("round")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = [a for a in algorithms if any(key[1] == a for key in lines)]
    tips = [{a: _end(lines[row[-1], a]) for a in shown if (row[-1], a) in lines} for row in grid]
    label_ends(figure, palette, tips, [axes[i, len(row) - 1] for i, row in enumerate(grid)], shown)
    hardest = "Below: the attack that costs " + (
        f"{study.baseline} the most." if study.baseline else "the most accuracy."
    )
    caption = f"{caption} {hardest}" if len(grid) == 2 else caption
    unit = " (%)" if accuracy else ""
    columns = ["facet", "attack", "algorithm", "round", f"{label}{unit}", f"low{unit}", f"high{unit}", "seeds"]
    notes = left_out(len(study.facets), len(facets), "settings")
    notes += spoken_for(study, algorithms)
    alt = f"Line charts of {label} by round for {len(algorithms)} algorithms in {sum(map(len, grid))} conditions."
    return finish(figure, slug, title, caption, alt, Table(columns, rows), notes)


def _said(name: str, line: pd.DataFrame, accuracy: bool) -> list[str]:
    return [
        f"{name}, round {x:g}: {f'{100 * mean:.1f} %' if accuracy else f'{mean:.2g}'}"
        for x, mean in line[["x", "mean"]].to_numpy()
    ]


def _end(line: pd.DataFrame) -> tuple[float, float]:
    return float(line["x"].iloc[-1]), float(line["mean"].iloc[-1])


def means_by_round(runs: list[RunRecord], value: Callable[[RoundRecord], float | None], *, share: bool) -> pd.DataFrame:
    """x (round), mean, low, high, seeds at no more than ``POINTS`` rounds, the last among them; NaN: no interval."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for entry in run.rounds:
            if (v := value(entry)) is not None:
                found.setdefault(entry.round, []).append(v)
    rounds = sorted(found)
    if len(rounds) > POINTS:
        rounds = [rounds[i] for i in np.unique(np.linspace(0, len(rounds) - 1, POINTS).round().astype(int))]
    intervals = [mean_interval(found[t], share=share) for t in rounds]
    columns = {name: [getattr(i, name) for i in intervals] for name in ("mean", "low", "high")}
    return pd.DataFrame({"x": rounds, **columns, "seeds": [i.n for i in intervals]}).astype(float)
