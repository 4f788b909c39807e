"""How stable the one-time map is, round by round: beside later updates, between clients, from step to step."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from autoflip_secure.records.run import RoundRecord
from autoflip_secure.records.stability import TOP
from autoflip_secure.reports.figures.drawing import draw_lines, fitting, label_ends, left_out, on_demand, spoken_for
from autoflip_secure.reports.figures.rounds import COLUMNS, means_by_round
from autoflip_secure.reports.figures.style import Palette, Picture, finish, panels
from autoflip_secure.reports.study.labels import NO_ATTACK
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.tables.text import Table

_ROWS = {
    "rank_correlation": "rank correlation\nwith the map",
    "top_overlap": f"overlap of\nthe top {100 * TOP:.0f} %",
    "between_clients": "cosine between\nclients",
    "successive": "cosine of\nsuccessive steps",
    "mask_overlap": "mask overlap\nwith round 1",
}
_CAPTION = (
    "How long the map of the first exploration describes training, without attack; mean over seeds. Rank correlation "
    "(Spearman) and overlap compare the map D_0 with the squared updates of a round, scaled to norm 1, on the hidden "
    f"weights that are alive; by chance the overlap would be {TOP:g}. Cosines between the updates of two participants "
    "say how far clients drift apart, those of successive steps how far the direction changes from round to round. "
    "Mask overlap is the Jaccard index of the weights alive in this round and in round 1. An algorithm that explores "
    "nothing has no map."
)


def stability(study: Study, palette: Palette) -> Picture | None:
    """A row for every measure, a column for every facet; None: nothing was measured."""
    return on_demand(study, lambda names: _stability(study, palette, names))


def _stability(study: Study, palette: Palette, names: list[str]) -> Picture | None:
    facets = [f for f in study.facets if Condition(f, NO_ATTACK) in study.conditions][:COLUMNS]
    lines = {
        (measure, facet, name): found
        for measure in _ROWS
        for facet in facets
        for name in names
        if not (found := _line(study, Condition(facet, NO_ATTACK), name, measure)).empty
    }
    measures = [m for m in _ROWS if any(key[0] == m for key in lines)]
    facets = [f for f in facets if any(key[1] == f for key in lines)]
    if not lines or max(map(len, lines.values())) < 2:
        return None
    figure, axes = panels(len(measures), len(facets), height=1.75, share_y="row")
    rows: list[list[object]] = []
    for i, measure in enumerate(measures):
        for ax, facet in zip(axes[i], facets, strict=True):
            drawn = [name for name in names[::-1] if (measure, facet, name) in lines]
            for name in drawn[::-1]:
                for x, *ends, seeds in lines[measure, facet, name][["x", "mean", "low", "high", "seeds"]].to_numpy():
                    known = [None if np.isnan(v) else float(v) for v in ends]
                    rows.append([measure.replace("_", " "), facet, name, int(x), *known, int(seeds)])
            if drawn:
                frame = pd.concat(
                    [
                        lines[measure, facet, n].assign(algorithm=n, said=_said(n, lines[measure, facet, n]))
                        for n in drawn
                    ]
                )
                draw_lines(ax, palette, frame, drawn, markevery=max(1, int(frame["x"].nunique()) // 5))
            if i == 0:
                ax.set_title(fitting(facet, len(facets)))
        axes[i, 0].set_ylabel(_ROWS[measure])
    for ax in axes[-1]:
        ax.set_xlabel("round")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = [name for name in names if any(key[2] == name for key in lines)]
    tips = [{n: _end(lines[m, facets[-1], n]) for n in shown if (m, facets[-1], n) in lines} for m in measures]
    label_ends(figure, palette, tips, axes[:, -1], shown)
    columns = ["measure", "facet", "algorithm", "round", "mean", "low", "high", "seeds"]
    notes = left_out(len(study.facets), len(facets), "settings") + spoken_for(study, names)
    alt = f"Line charts of {len(measures)} measures of stability by round for {len(shown)} algorithms."
    return finish(figure, "stability", "Stability of the map", _CAPTION, alt, Table(columns, rows), notes)


def _line(study: Study, condition: Condition, name: str, measure: str) -> pd.DataFrame:
    def read(entry: RoundRecord) -> float | None:
        return None if entry.stability is None else getattr(entry.stability, measure)

    return means_by_round(study.runs(condition, name), read, share=False)


def _said(name: str, line: pd.DataFrame) -> list[str]:
    return [f"{name}, round {x:g}: {mean:.2f}" for x, mean in line[["x", "mean"]].to_numpy()]


def _end(line: pd.DataFrame) -> tuple[float, float]:
    return float(line["x"].iloc[-1]), float(line["mean"].iloc[-1])
