"""Backdoors: success of the trigger beside clean accuracy, round by round and against how much is pruned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from autoflip_secure.records.robustness import DURABLE, in_window, parts_of
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.reports.figures.drawing import (
    SEEDS_FOR_BARS,
    bars,
    fit_shares,
    fitting,
    left_out,
    spoken_for,
    spokesmen,
)
from autoflip_secure.reports.figures.marks import belonging
from autoflip_secure.reports.figures.rounds import COLUMNS, means_by_round
from autoflip_secure.reports.figures.style import MUTED, Palette, Picture, finish, panels, percent
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.labels import is_clean
from autoflip_secure.reports.study.labels import percent as as_percent
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.tables.text import Table, percents

_MEASURES: dict[str, Callable[[RoundRecord], float | None]] = {
    "attack success": lambda entry: entry.attack_success,
    "test accuracy": lambda entry: entry.test_accuracy,
}


def over_rounds(study: Study, palette: Palette) -> Picture | None:
    """Attack success above, accuracy below, a column per condition; shaded are rounds in which the backdoor acts."""
    conditions = _conditions(study)
    shown, algorithms = conditions[:COLUMNS], spokesmen(study)
    if not shown:
        return None
    figure, axes = panels(len(_MEASURES), len(shown), height=2.2, share_y="row")
    rows: list[list[object]] = []
    for column, condition in enumerate(shown):
        for row, (name, value) in enumerate(_MEASURES.items()):
            ax = axes[row, column]
            for algorithm in algorithms[::-1]:
                line = means_by_round(study.runs(condition, algorithm), value, share=True)
                if line.empty:
                    continue
                with belonging(ax, algorithm):
                    ax.plot(
                        line["x"].to_numpy(), line["mean"].to_numpy(), color=palette.colours[algorithm],
                        marker=palette.markers[algorithm], markevery=max(1, len(line) // 5), markersize=5,
                        lw=palette.widths.get(algorithm, 1.6), markeredgewidth=0,
                    )  # fmt: skip
                    if (line["seeds"] >= SEEDS_FOR_BARS).all():
                        ax.fill_between(
                            line["x"], line["low"], line["high"], color=palette.colours[algorithm], alpha=0.13, lw=0
                        )
                for at, mean, low, high, seeds in line[["x", "mean", "low", "high", "seeds"]].to_numpy():
                    ends = [None if np.isnan(end) else 100 * float(end) for end in (mean, low, high)]
                    rows.append([*condition, algorithm, name, int(at), *ends, int(seeds)])
            _shade(ax, study.runs(condition, _first(study, condition))[0])
            percent(ax)
        axes[0, column].axhline(DURABLE, color=MUTED, lw=0.8, ls=(0, (2, 2)))
        axes[0, column].set_title(fitting(f"{condition.facet} · {condition.attack}", len(shown)))
        axes[-1, column].set_xlabel("round")
        axes[-1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    for row, name in enumerate(_MEASURES):
        axes[row, 0].set_ylabel(name)
        fit_shares(axes[row, 0], [float(str(r[5])) / 100 for r in rows if r[3] == name] + [DURABLE] * (row == 0))
    palette.legend(figure, [a for a in algorithms if any(row[2] == a for row in rows)])
    caption = (
        "Above: share of the test samples of other classes that the trigger sends to its target; below: accuracy "
        "without the trigger. Mean over seeds, with a 95 % t interval from three seeds on. Grey: rounds in which the "
        "backdoor is trained. A backdoor has lasted until its success is below the dotted line."
    )
    alt = f"Line charts of attack success and accuracy by round in {len(shown)} conditions."
    columns = ["facet", "attack", "algorithm", "measure", "round", "mean (%)", "low (%)", "high (%)", "seeds"]
    notes = left_out(len(conditions), len(shown), "conditions") + spoken_for(study)
    return finish(figure, "backdoor-rounds", "Attack success and accuracy", caption, alt, Table(columns, rows), notes)


def against_density(study: Study, palette: Palette) -> Picture | None:
    """Attack success against the share of weights that are alive; None where nothing is pruned."""
    conditions = _conditions(study)
    if not any(run.rounds[-1].density < 1 for c in conditions for a in study.algorithms for run in study.runs(c, a)):
        return None
    shown, algorithms = conditions[:COLUMNS], spokesmen(study)
    figure, axes = panels(1, len(shown), height=2.6)
    rows: list[list[object]] = []
    for ax, condition in zip(axes[0], shown, strict=True):
        for algorithm in algorithms:
            pairs = _pairs(study, study.runs(condition, algorithm))
            if not pairs:
                continue
            density, success = (mean_interval(values, share=True) for values in zip(*pairs, strict=True))
            colour = palette.colours[algorithm]
            with belonging(ax, algorithm):
                ax.scatter([d for d, _ in pairs], [s for _, s in pairs], s=9, color=colour, alpha=0.5, linewidths=0)
                ax.scatter(
                    [density.mean], [success.mean], s=44, color=colour, marker=palette.markers[algorithm], zorder=3
                )
                if len(pairs) >= SEEDS_FOR_BARS:
                    bars(ax, [density.mean], [success], colour, vertical=True)
            rows.append([*condition, algorithm, 100 * density.mean, *percents(success), len(pairs)])
        percent(ax)
        percent(ax, "x")
        ax.set_xlabel("weights alive")
        ax.set_title(fitting(f"{condition.facet} · {condition.attack}", len(shown)))
    axes[0, 0].set_ylabel("attack success")
    fit_shares(axes[0, 0], [float(str(row[end])) / 100 for row in rows for end in (5, 6, 7) if row[end] is not None])
    palette.legend(figure, [a for a in algorithms if any(row[2] == a for row in rows)], line=False)
    caption = (
        "Share of the test samples of other classes that the trigger sends to its target, against the share of "
        "prunable weights that are alive at the end. Small dots: single seeds; large ones: their mean, with a 95 % t "
        "interval from three seeds on."
    )
    best = max(rows, key=lambda row: float(str(row[4])), default=None)
    alt = "Scatter plots of attack success against density."
    if best is not None:
        alt += f" Highest: {best[2]}, {as_percent(float(str(best[4])) / 100)}."
    columns = [
        "facet",
        "attack",
        "algorithm",
        "weights alive (%)",
        "attack success (%)",
        "low (%)",
        "high (%)",
        "seeds",
    ]
    notes = left_out(len(conditions), len(shown), "conditions") + spoken_for(study)
    return finish(figure, "backdoor-density", "Attack success and pruning", caption, alt, Table(columns, rows), notes)


def _conditions(study: Study) -> list[Condition]:
    """Those with a trigger whose success was measured."""
    return [
        condition
        for condition in study.conditions
        if any(
            e.attack_success is not None for a in study.algorithms for r in study.runs(condition, a) for e in r.rounds
        )
    ]


def _first(study: Study, condition: Condition) -> str:
    return next(algorithm for algorithm in study.algorithms if study.runs(condition, algorithm))


def _pairs(study: Study, runs: Sequence[RunRecord]) -> list[tuple[float, float]]:
    """(density, attack success) of each run that has both."""
    found = [(run.rounds[-1].density, study.outcome.attack_success(run)) for run in runs if run.rounds]
    return [(density, success) for density, success in found if success is not None]


def _shade(ax: Axes, run: RunRecord) -> None:
    """Rounds in which the backdoor acts, where it does not act in all."""
    own = [one for one in parts_of(run.config.get("attack")) if one.get("kind") == "backdoor" and not is_clean(one)]
    acting = [e.round for e in run.rounds if any(in_window(one.get("window") or {}, e.round) for one in own)]
    if len(acting) < len(run.rounds):
        for number in acting:
            ax.axvspan(number - 0.5, number + 0.5, color=MUTED, alpha=0.12, lw=0)
