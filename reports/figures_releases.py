"""What is released: the epsilon of each release, epsilon over rounds, and whose ledger the report shows.

Epsilon is what the ledger proves for everything released and for the client that pays most: against the server where
that is proven, else against the public. Attacks change nothing that honest clients release, so one run stands for its
setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from autoflip_secure.record import RunRecord
from reports.drawing import left_out
from reports.labels import shorten
from reports.privacy_groups import against, proven_epsilon
from reports.privacy_words import OBSERVED, epsilon_text
from reports.study import Study
from reports.style import INK, Picture, Table, finish, panels, powers

_BARS = 12  # settings in one picture


def costs(study: Study) -> Picture | None:
    """A bar per setting: epsilon of the updates alone, and what the other releases add to it."""
    rows: list[tuple[str, str, str, float, float, float]] = []
    for name, record in _settings(study):
        guarantee = against(record)
        assert guarantee is not None
        worst = max(guarantee.clients, key=lambda entry: entry.epsilon or 0.0)
        total = worst.epsilon or 0.0
        alone = min(worst.training if worst.training is not None else total, total)
        others = ", ".join(sorted({r.name for r in guarantee.releases} - {"updates"})) or "nothing else"
        rows.append((name, OBSERVED[guarantee.observer], others, alone, total - alone, worst.delta))
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: row[3] + row[4])[:_BARS]
    figure, axes = panels(1, 1, height=0.36 * len(shown) + 0.9)
    ax: Axes = axes[0, 0]
    colours = sns.color_palette("colorblind", 2).as_hex()
    for place, (_, _, _, alone, extra, _) in enumerate(shown):
        ax.barh(place, alone, color=colours[0], height=0.6, linewidth=0)
        ax.barh(place, extra, left=alone, color=colours[1], height=0.6, linewidth=0)
        ax.text(alone + extra, place, f"  {epsilon_text(alone + extra)}", va="center", fontsize=8.5, color=INK)
    ax.set_yticks(range(len(shown)), [shorten(f"{row[0]}, against {row[1]}", 84) for row in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 1.12 * max(alone + extra for _, _, _, alone, extra, _ in shown))
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("epsilon")
    handles = [Line2D([], [], color=c, lw=6, label=text, solid_capstyle="butt") for c, text in
               zip(colours, ("updates alone", "what the other releases add"), strict=True)]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    columns = ["setting", "seen by", "other releases", "updates alone", "others add", "everything", "delta"]
    table = [[n, who, o, alone, extra, alone + extra, delta] for n, who, o, alone, extra, delta in rows]
    caption = (
        "Epsilon composed over every release, for the client that pays most: the updates of all rounds alone, and what "
        "the exploration (and an adaptive clip norm) add. Counting training alone would claim too little."
    )
    most = max(rows, key=lambda row: row[4])
    alt = f"{len(shown)} bars; other releases add at most {most[4]:.2f} to epsilon ({most[0]})."
    notes = left_out(len(rows), len(shown), "settings")
    return finish(figure, "privacy-ledger", "What each release costs", caption, alt, Table(columns, table), notes)


def over_rounds(study: Study) -> Picture | None:
    """Epsilon so far, round by round."""
    found = _settings(study)
    if not found:
        return None
    shown = sorted(found, key=lambda pair: proven_epsilon(pair[1]) or 0.0)[:_BARS]
    figure, axes = panels(1, 1, height=3.2)
    ax: Axes = axes[0, 0]
    colours = sns.color_palette("viridis", len(shown)).as_hex()
    table: list[list[Any]] = []
    for name, record in found:
        guarantee = against(record)
        assert guarantee is not None
        table += [[name, OBSERVED[guarantee.observer], round_, epsilon] for round_, epsilon in guarantee.over_rounds]
    for colour, (_, record) in zip(colours, shown, strict=True):
        guarantee = against(record)
        assert guarantee is not None
        at = [round_ for round_, _ in guarantee.over_rounds]
        spent = [epsilon or float("nan") for _, epsilon in guarantee.over_rounds]
        ax.step(at, spent, where="post", color=colour, lw=1.7)
    ends = [proven_epsilon(record) or 0.0 for _, record in shown]
    if max(ends) > 30 * max(min(ends), 1e-3):
        ax.set_yscale("log")
        powers(ax)
    ax.set_xlabel("round (0: exploration)")
    ax.set_ylabel("epsilon so far")
    handles = [Line2D([], [], color=c, lw=2, label=shorten(n, 70)) for c, (n, _) in zip(colours, shown, strict=True)]
    figure.legend(handles=handles, loc="outside upper left", ncols=2 if len(shown) > 1 else 1, columnspacing=1.6)
    caption = (
        "The epsilon that is proven for what was released up to each round, for the client that has paid most by then."
    )
    alt = f"{len(shown)} curves of epsilon over rounds, ending between {min(ends):.2f} and {max(ends):.2f}."
    data = Table(["setting", "seen by", "round", "epsilon"], table)
    return finish(
        figure,
        "privacy-rounds",
        "Epsilon over rounds",
        caption,
        alt,
        data,
        left_out(len(found), len(shown), "settings"),
    )


def ledgers(study: Study, most: int = 8) -> tuple[list[tuple[str, RunRecord]], int]:
    """One run of every private setting for the table of the ledger, and how many more there are."""
    found = [(f"{name}, seed {r.seed}", r) for name, r in _settings(study, lambda r: r.privacy is not None)]
    return found[:most], max(0, len(found) - most)


def _proven(record: RunRecord) -> bool:
    return proven_epsilon(record) is not None


def _settings(study: Study, wanted: Callable[[RunRecord], bool] = _proven) -> list[tuple[str, RunRecord]]:
    """The run with the lowest seed of every (algorithm, setting) among those that are ``wanted``."""
    found: dict[tuple[str, str], RunRecord] = {}
    for row, record in zip(study.cells.itertuples(), study.records, strict=True):
        key = (str(row.algorithm), str(row.facet))
        if wanted(record) and (key not in found or record.seed < found[key].seed):
            found[key] = record
    return [(f"{algorithm} · {facet}", record) for (algorithm, facet), record in found.items()]
