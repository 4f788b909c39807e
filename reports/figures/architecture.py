"""The pruned architecture: layers as bars of units, kept of all, with the density of the weights between (Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.drawing import left_out
from autoflip_secure.reports.figures.pruning import gentlest, prunes
from autoflip_secure.reports.figures.style import MUTED, RULE, Palette, Picture, finish, panels
from autoflip_secure.reports.study.labels import layer_labels, told_apart
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table

PANELS = 4
LAYERS = 8  # per panel; more would not be legible
_HALF = 0.11  # half the width of a bar; layers are one apart


@dataclass(frozen=True)
class Part:
    """One layer, mean over seeds: ``live`` of ``units``, and ``density`` = living / all of the weights into it.

    ``inner``: living weights among those between living units (the part that a smaller dense model would hold);
    None for the input.
    """

    name: str
    units: int
    live: float
    density: float | None
    inner: float | None
    seeds: int


def parts(runs: Sequence[RunRecord]) -> list[Part]:
    """Layers in the order of the forward pass, the input first; empty when the structure of a model is unknown.

    What feeds a layer is in the record of a model that is no chain. In a chain it is the layer before, whose units are
    the columns (or a whole number of columns per unit, behind a flatten); the input counts as living.
    """
    first = runs[0].layers
    if not first or any(x.units is None or x.live_units is None or len(x.shape) < 2 for x in first):
        return []
    same = [r.layers for r in runs if [x.shape for x in r.layers] == [x.shape for x in first]]
    found = [Part("input", first[0].shape[1], float(first[0].shape[1]), None, None, len(same))]
    fed = [1.0] * len(same)  # share of the layer's columns that come from living units, per run
    for k, layer in enumerate(first):
        chained = layer.shape[1] % found[-1].units == 0
        known = [one[k].live_inputs for one in same]
        fed = [f if n is None else n / layer.shape[1] for n, f in zip(known, fed, strict=True)]
        alive = [(x[k].live_units or 0) / layer.shape[0] for x in same]
        room = [
            layer.weights * a * (f if chained or n is not None else 1.0)
            for a, f, n in zip(alive, fed, known, strict=True)
        ]
        inner = [min(1.0, x[k].live_weights / r) if r else 0.0 for x, r in zip(same, room, strict=True)]
        kept = float(np.mean([x[k].live_weights for x in same])) / max(1, layer.weights)
        units, live = layer.shape[0], float(np.mean(alive)) * layer.shape[0]
        found.append(Part(layer.name.removesuffix(".weight"), units, live, kept, float(np.mean(inner)), len(same)))
        fed = alive
    return found


def architecture(study: Study, palette: Palette) -> Picture | None:
    """One panel per algorithm that prunes, under the gentlest condition of the first partition it ran on."""
    found = []
    for algorithm in sorted(study.algorithms, key=lambda a: a not in study.headline):
        if not prunes(study, algorithm):
            continue
        facet, runs = next((f, r) for f in study.facets if (r := gentlest(study, f, algorithm)))
        layers = parts(runs)
        if layers:
            found.append((algorithm, facet, layers))
    if not found:
        return None
    shown = found[:PANELS]
    figure, axes = panels(1, len(shown), height=2.5, wide=len(shown) > 1)
    names = told_apart([algorithm for algorithm, *_ in shown], 30)
    for ax, (algorithm, _, layers) in zip(axes[0], shown, strict=True):
        _draw(ax, layers[:LAYERS], palette.colours[algorithm])
        ax.set_title(names[algorithm])
    rows = [
        [algorithm, facet, p.name, p.units, p.live]
        + [None if share is None else 100 * share for share in (p.density, p.inner)]
        + [p.seeds]
        for algorithm, facet, layers in found
        for p in layers
    ]
    places = dict.fromkeys(facet for _, facet, _ in shown)
    caption = (
        f"What is left of the model, mean over seeds ({', '.join(places)}, without attack where that was run): bars "
        "are layers, their filled part the live units (neurons, filters), with heights on a square-root scale. The "
        "darker the band between two layers, the denser the weights between their live units; the number on it is "
        "the share of all weights into the layer that survive."
    )
    alt = "Pruned architecture. " + " ".join(
        f"{algorithm}: {', '.join(f'{p.name} {p.live:.0f} of {p.units}' for p in layers)}."
        for algorithm, _, layers in shown
    )
    notes = left_out(len(found), len(shown), "algorithms")
    longest = max(len(layers) for _, _, layers in shown)
    if longest > LAYERS:
        notes.append(f"The first {LAYERS} of {longest} layers are drawn; all are in the table.")
    columns = ["algorithm", "facet", "layer", "units", "living units", "weights alive (%)"]
    columns += ["alive between living units (%)", "seeds"]
    return finish(figure, "architecture", "Pruned architecture", caption, alt, Table(columns, rows), notes)


def _draw(ax: Axes, layers: Sequence[Part], colour: str) -> None:
    top = max(p.units for p in layers) ** 0.5
    names = [layers[0].name, *layer_labels([part.name for part in layers[1:]], 9)]
    for x, part in enumerate(layers):
        full, live = (n**0.5 / top / 2 for n in (part.units, part.live))
        if x and part.density is not None and part.inner is not None:
            before = layers[x - 1].live ** 0.5 / top / 2
            corners = [(x - 1 + _HALF, -before), (x - 1 + _HALF, before), (x - _HALF, live), (x - _HALF, -live)]
            ax.add_patch(Polygon(corners, closed=True, color=colour, alpha=0.08 + 0.6 * part.inner, lw=0))
            ax.text(x - 0.5, 0, f"{100 * part.density:.0f} %", ha="center", va="center", fontsize=8.5)
        ax.add_patch(Rectangle((x - _HALF, -full), 2 * _HALF, 2 * full, fc=RULE, ec=MUTED, lw=0.6))
        ax.add_patch(Rectangle((x - _HALF, -live), 2 * _HALF, 2 * live, fc=colour if x else MUTED, lw=0))
        count = f"{part.units}" if round(part.live) == part.units else f"{part.live:.0f}\nof {part.units}"
        ax.text(x, full + 0.03, count, ha="center", va="bottom", fontsize=8.5, linespacing=0.95)
        ax.text(x, -0.56, names[x], ha="center", va="top", fontsize=8, color=MUTED)
    ax.set_xlim(-0.4, len(layers) - 0.6)
    ax.set_ylim(-0.68, 0.72)
    ax.set_axis_off()
