"""What happens round by round: convergence (Fig. 7) and the variance of the weight updates (Fig. 3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
from scipy import stats

from autoflip_secure.record import RoundRecord, RunRecord
from reports.drawing import LINES, left_out
from reports.labels import NO_ATTACK, shorten
from reports.statistics import LEVEL
from reports.study import Condition, Study
from reports.style import Palette, Picture, Table, finish, panels, percent, powers

COLUMNS, POINTS = 3, 40  # panels across and rounds drawn, at most


def convergence(study: Study, palette: Palette) -> Picture | None:
    """Test accuracy by round: without attack above, under the hardest attack below, a column per facet."""
    return _by_round(
        study,
        palette,
        lambda r: r.test_accuracy,
        slug="convergence",
        title="Convergence",
        label="test accuracy",
        caption="Test accuracy by round; mean over seeds with a 95 % t interval.",
        scale=100.0,
    )


def update_variance(study: Study, palette: Palette) -> Picture | None:
    """Variance over coordinates of the global step, by round, on a logarithmic axis."""
    return _by_round(
        study,
        palette,
        lambda r: r.update_variance if r.update_variance > 0 else None,
        slug="update-variance",
        title="Variance of the weight updates",
        label="variance of the step",
        caption="Variance over coordinates of the server's step, by round (logarithmic axis); mean over seeds.",
        scale=1.0,
    )


def _by_round(
    study: Study,
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
    algorithms = study.algorithms[:LINES]
    lines = {
        (c, a): found
        for row in grid
        for c in row
        for a in algorithms
        if (found := _means(study.runs(c, a), value))[0].size
    }
    if not lines or max(found[0].size for found in lines.values()) < 2:
        return None
    figure, axes = panels(len(grid), max(len(row) for row in grid), height=2.3)
    rows: list[list[object]] = []
    for i, conditions in enumerate(grid):
        for ax, condition in zip(axes[i], conditions, strict=False):
            for a in algorithms[::-1]:
                if (condition, a) not in lines:
                    continue
                x, mean, low, high, seeds = lines[condition, a]
                sns.lineplot(
                    x=x,
                    y=mean,
                    ax=ax,
                    color=palette.colours[a],
                    lw=palette.widths[a],
                    marker=palette.markers[a],
                    markevery=max(1, x.size // 5),
                    markeredgewidth=0,
                    errorbar=None,
                )
                if accuracy:
                    ax.fill_between(x, low, high, color=palette.colours[a], alpha=0.13, lw=0)
                for point in zip(x, mean, low, high, seeds, strict=True):
                    values = [None if np.isnan(v) else float(v) * scale for v in point[1:4]]
                    rows.append([condition.facet, condition.attack, a, int(point[0]), *values, int(point[4])])
            if accuracy:
                percent(ax)
            else:
                ax.set_yscale("log")
                powers(ax)
            ax.set_title(f"{shorten(condition.facet, 20)} · {shorten(condition.attack, 26)}", fontsize=8.5)
        for ax in axes[i][len(conditions) :]:
            ax.set_visible(False)
        axes[i, 0].set_ylabel(label)
    for ax in axes[-1]:
        ax.set_xlabel("round")
    palette.legend(figure, [a for a in algorithms if any(key[1] == a for key in lines)])
    rows.sort(key=lambda r: (facets.index(str(r[0])), str(r[1]), algorithms.index(str(r[2])), int(str(r[3]))))
    hardest = "Below: the attack that costs " + (
        f"{study.baseline} the most." if study.baseline else "the most accuracy."
    )
    caption = f"{caption} {hardest}" if len(grid) == 2 else caption
    unit = " (%)" if accuracy else ""
    columns = ["facet", "attack", "algorithm", "round", f"{label}{unit}", f"low{unit}", f"high{unit}", "seeds"]
    notes = left_out(len(study.facets), len(facets), "partitions")
    notes += left_out(len(study.algorithms), len(algorithms), "algorithms")
    alt = f"Line charts of {label} by round for {len(algorithms)} algorithms in {sum(map(len, grid))} conditions."
    return finish(figure, slug, title, caption, alt, Table(columns, rows), notes)


def _means(runs: list[RunRecord], value: Callable[[RoundRecord], float | None]) -> tuple[np.ndarray, ...]:
    """Rounds, mean, low, high and number of seeds, at no more than ``POINTS`` rounds, the last one among them."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for entry in run.rounds:
            if (v := value(entry)) is not None:
                found.setdefault(entry.round, []).append(v)
    rounds = np.array(sorted(found), dtype=int)
    if rounds.size > POINTS:
        rounds = rounds[np.unique(np.linspace(0, rounds.size - 1, POINTS).round().astype(int))]
    count = np.array([len(found[t]) for t in rounds])
    mean = np.array([np.mean(found[t]) for t in rounds])
    spread = np.array([np.std(found[t], ddof=1) if len(found[t]) > 1 else np.nan for t in rounds])
    half = stats.t.ppf((1 + LEVEL) / 2, np.maximum(count - 1, 1)) * spread / np.sqrt(np.maximum(count, 1))
    return rounds, mean, mean - half, mean + half, count
