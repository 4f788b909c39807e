"""What was pruned: the guidance (Fig. 4 and 6), and what is left of every layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from autoflip_secure.records.run import GuidanceRecord, RunRecord
from autoflip_secure.reports.figures.drawing import fitting, left_out, spoken_for, spokesmen
from autoflip_secure.reports.figures.marks import belonging
from autoflip_secure.reports.figures.style import INK, Palette, Picture, finish, panels, percent, powers
from autoflip_secure.reports.study.labels import layer_labels, numbered, told_apart
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.tables.text import Table

PANELS = 3
SAMPLE = 400  # weights drawn
_ROOM = 0.14  # of the guidance's axis, for the name of a cut
_LETTERS = 130  # that names of layers may have beside each other, in all panels of a row
_SLANTED, _NAME = 28, 12  # slanted names that stand apart, in all panels of a row; letters of one


def _guided(study: Study) -> list[tuple[str, Condition, list[RunRecord]]]:
    """Per algorithm that prunes by guidance, its runs under the first condition (the gentlest) that has some."""
    found = []
    for algorithm in sorted(study.algorithms, key=lambda a: a not in study.headline):
        for condition in study.conditions:
            runs = [r for r in study.runs(condition, algorithm) if r.guidance is not None and _pruned(r)]
            if runs:
                found.append((algorithm, condition, runs))
                break
    return found


def _mark_cut(ax: Axes, run: RunRecord, height: float, *, left: bool = False) -> None:
    """A line at T_p where it is a cut on the guidance; a budget uses it otherwise. ``left``: its name is to the left of
    it, where there is room."""
    algorithm = run.config.get("algorithm") or {}
    kind = str((algorithm.get("pruner") or {}).get("kind", "")) if isinstance(algorithm, dict) else ""
    if run.guidance is not None and "budget" not in kind and run.guidance.threshold is not None:
        cut = run.guidance.threshold
        ax.axvline(cut, color=INK, lw=1, ls=(0, (4, 2)))
        left = left and cut > _ROOM
        place, side = (cut - 0.015, "right") if left else (cut + 0.015, "left")
        ax.text(place, height, f"T_p {cut:g}", ha=side, transform=ax.get_xaxis_transform(), fontsize=8.5)


def guidance_histogram(study: Study, palette: Palette) -> Picture | None:
    """Counts of guidance values at the start and at the end, on a logarithmic axis."""
    found = _guided(study)
    if not found:
        return None
    shown = found[:PANELS]
    figure, axes = panels(1, len(shown), height=2.6, wide=len(shown) > 1)
    rows: list[list[object]] = []
    names = told_apart([algorithm for algorithm, *_ in shown])
    for ax, (algorithm, condition, runs) in zip(axes[0], shown, strict=True):
        guides = _same_bins(runs)
        edges = np.array(guides[0].bin_edges)
        initial = np.mean([g.initial_counts for g in guides], axis=0)
        final = np.mean([g.final_counts for g in guides], axis=0)
        colour = palette.colours[algorithm]
        ax.stairs(initial, edges, color=colour, fill=True, alpha=0.3, lw=0, label="at the start")
        ax.stairs(final, edges, color=colour, lw=1.7, label="at the end")
        _mark_cut(ax, runs[0], 0.93)
        ax.set_yscale("log")
        powers(ax)
        ax.set_title(names[algorithm])
        ax.set_xlabel("guidance G")
        ax.legend(loc="upper right", bbox_to_anchor=(1.0, 0.92))
        for k in range(len(edges) - 1):
            rows.append(
                [algorithm, str(condition), edges[k], edges[k + 1], float(initial[k]), float(final[k]), len(guides)]
            )
    axes[0, 0].set_ylabel("hidden weights")
    scaled = dict.fromkeys(_same_bins(runs)[0].normalisation for _, _, runs in shown)
    caption = (
        "Histogram of the guidance G of the hidden weights, counts on a logarithmic axis, mean over seeds "
        f"({shown[0][1]}); pruned weights are still in it at the end, where their guidance only fades. Weights below "
        "T_p are the ones that the landscape calls idle. G is the energy of the explorers' deviations, scaled to [0, "
        f"1] within each weight tensor (guidance.normalisation: {', '.join(scaled)})."
    )
    alt = f"Histograms of guidance values on a logarithmic axis for {', '.join(a for a, _, _ in shown)}."
    columns = ["algorithm", "condition", "from", "to", "weights at the start", "weights at the end", "seeds"]
    notes = left_out(len(found), len(shown), "algorithms")
    return finish(figure, "guidance", "Guidance histogram", caption, alt, Table(columns, rows), notes)


def _same_bins(runs: list[RunRecord]) -> list[GuidanceRecord]:
    """Guidance of the runs whose histograms can be averaged with that of the first."""
    found = [r.guidance for r in runs if r.guidance is not None]
    return [g for g in found if g.bin_edges == found[0].bin_edges]


def importance(study: Study, palette: Palette) -> Picture | None:
    """Initial against final guidance of the living weights of a sample.

    Of pruned weights only the initial guidance is shown. Nobody moves them any more, so that their energy fades by one
    factor for all: they keep their rank whatever happens, which says nothing about whether importance is stable.
    """
    found = [f for f in _guided(study) if f[2][0].guidance and f[2][0].guidance.sample]
    if not found:
        return None
    shown = found[:PANELS]
    figure, axes = panels(1, len(shown), height=3.1, wide=len(shown) > 1)
    rows: list[list[object]] = []
    names = told_apart([algorithm for algorithm, *_ in shown])
    for ax, (algorithm, _, runs) in zip(axes[0], shown, strict=True):
        guidance = runs[0].guidance
        sample = guidance.sample[:SAMPLE] if guidance else []
        living = [(a, b) for a, b, live in sample if live]
        pruned = [a for a, _, live in sample if not live]
        if living:
            ax.scatter(*zip(*living, strict=True), s=14, alpha=0.75, c=palette.colours[algorithm], linewidths=0)
        ax.scatter(pruned, [-0.02] * len(pruned), s=24, c="#9aa1a9", marker="|", linewidths=0.9)
        _mark_cut(ax, runs[0], 0.94, left=True)  # pruned weights have no dots
        kept = _kept_rank(runs)
        told = "" if kept is None else f"\nrank correlation {kept:.2f}".replace("-", "−")
        ax.set_title(f"{names[algorithm]}\n{len(living)} alive, {len(pruned)} pruned{told}")
        ax.set_xlabel("initial guidance G")
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.05, 1.03)
        rows += [[algorithm, runs[0].seed, a, b if live else None, "yes" if live else "no"] for a, b, live in sample]
    axes[0, 0].set_ylabel("final guidance G")
    caption = (
        "Initial against final importance of the live weights (dots) in a fixed random sample of hidden weights "
        f"({shown[0][1]}, seed {shown[0][2][0].seed}), and Spearman's rank correlation of the two over live weights, "
        "mean over seeds: 1 is importance that stays as explored. Pruned weights are marked at the bottom by their "
        "initial importance; nothing moves them any more, so they would keep their rank whatever happens. Weights "
        "left of the T_p line are pruned at the start; marks to its right were pruned later, or with a whole unit."
    )
    alt = "Scatter plots of initial against final guidance of live weights; pruned ones are marks at the bottom."
    columns = ["algorithm", "seed", "initial G", "final G", "alive"]
    notes = left_out(len(found), len(shown), "algorithms")
    return finish(figure, "importance", "Initial against final importance", caption, alt, Table(columns, rows), notes)


def _kept_rank(runs: list[RunRecord]) -> float | None:
    """Spearman's correlation of initial and final guidance over living weights, mean over runs; None: undefined."""
    found = []
    for run in runs:
        living = np.array([(a, b) for a, b, live in (run.guidance.sample if run.guidance else []) if live])
        if len(living) > 2 and living.std(0).min() > 0:
            found.append(float(stats.spearmanr(*living.T).statistic))
    return float(np.mean(found)) if found else None


def layers(study: Study, palette: Palette) -> Picture | None:
    """Living weights and living units of every weight tensor, as a share of all; a column per facet."""
    names = [a for a in spokesmen(study) if prunes(study, a)]
    facets = [f for f in study.facets if any(gentlest(study, f, a) for a in names)][:PANELS]
    if not names or not facets:
        return None
    units = any(x.units is not None for f in facets for a in names for r in gentlest(study, f, a)[:1] for x in r.layers)
    figure, axes = panels(2 if units else 1, len(facets), height=2.1)
    rows: list[list[object]] = []
    for j, facet in enumerate(facets):
        for n, name in enumerate(names):
            runs = gentlest(study, facet, name)
            if not runs:
                continue
            for k, layer in enumerate(runs[0].layers):
                same = [r.layers[k] for r in runs if len(r.layers) > k]
                live = float(np.mean([x.live_weights / max(1, x.weights) for x in same]))
                counted = [x.live_units / x.units for x in same if x.units and x.live_units is not None]
                alive = float(np.mean(counted)) if counted else None
                shape = " × ".join(map(str, layer.shape))
                rows.append(
                    [facet, name, layer.name, shape, 100 * live, None if alive is None else 100 * alive, len(same)]
                )
            own = [r for r in rows if r[0] == facet and r[1] == name]
            at = np.arange(len(own)) + (n - (len(names) - 1) / 2) * 0.8 / len(names)
            for i, column in enumerate((4, 5) if units else (4,)):
                shares = [np.nan if r[column] is None else float(str(r[column])) / 100 for r in own]
                with belonging(axes[i, j], name):
                    axes[i, j].bar(at, shares, width=0.8 / len(names), color=palette.colours[name], lw=0)
        for i in range(axes.shape[0]):
            percent(axes[i, j])
            axes[i, j].set_ylim(0, 1.02)
            axes[i, j].set_title(fitting(facet, axes.shape[1]))
        _name_layers(axes[-1, j], [str(r[2]) for r in rows if r[0] == facet and r[1] == names[0]], len(facets))
    axes[0, 0].set_ylabel("weights alive")
    if units:
        axes[1, 0].set_ylabel("units alive")
    palette.legend(figure, names, colour=True)
    caption = (
        "What is left of every layer at the end of the run, mean over seeds, under the first condition of each "
        "setting (the table names the layers). The output layer loses only weights of dead units; only dead units make "
        "a dense model smaller."
    )
    alt = "Bar charts of live weights and units per layer for " + ", ".join(names) + "."
    columns = ["facet", "algorithm", "layer", "shape", "weights alive (%)", "units alive (%)", "seeds"]
    notes = left_out(len(study.facets), len(facets), "settings") + spoken_for(study)
    return finish(figure, "layers", "Sparsity per layer", caption, alt, Table(columns, rows), notes)


def _name_layers(ax: Axes, names: Sequence[str], columns: int) -> None:
    """Names under the bars, slanted where they would touch; numbers where they would touch even so, or look alike."""
    labels, room = layer_labels(names, _NAME), _SLANTED // columns
    by_number = len(labels) > room or labels == numbered(len(labels))
    if by_number:
        labels = numbered(len(labels), -(-len(labels) // room))
    crowded = sum(len(label) + 2 for label in labels if label) > _LETTERS // columns
    ax.set_xticks(range(len(labels)), labels, rotation=30 if crowded and not by_number else 0)
    ax.set_xlabel("layer, by its place" if by_number else "layer")


def gentlest(study: Study, facet: str, algorithm: str) -> list[RunRecord]:
    """Runs of the gentlest condition of a facet that has some."""
    return next((r for c in study.conditions if c.facet == facet and (r := study.runs(c, algorithm))), [])


def prunes(study: Study, algorithm: str) -> bool:
    """Whether an algorithm pruned anything, judged by one run of every facet."""
    return any(_pruned(r) for f in study.facets for r in gentlest(study, f, algorithm)[:1])


def _pruned(run: RunRecord) -> bool:
    return any(layer.live_weights < layer.weights for layer in run.layers)
