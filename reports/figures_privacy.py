"""What privacy costs: accuracy, detection and robustness against epsilon; what each release costs; epsilon over rounds.

Epsilon is what the ledger proves for everything released and for the client that pays most: against the server where
that is proven, else against the public. Where nothing is proven there is no number to draw against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from autoflip_secure.record import RunRecord
from reports.drawing import (
    COLUMNS,
    LINES,
    ROWS,
    Line,
    draw_curves,
    left_out,
    seeds_note,
    spoken_for,
    spokesmen,
    values_and_intervals,
)
from reports.labels import NO_ATTACK, shorten
from reports.privacy_groups import Group, against, groups, proven_epsilon, tick
from reports.privacy_words import OBSERVED, epsilon_text
from reports.statistics import Interval, mean_interval
from reports.study import Condition, Study
from reports.style import INK, Palette, Picture, Table, finish, panels, percent, powers

_OF_PRIVACY = ("privacy", "sampling")
ACROSS = 3  # panels beside each other where only the kind of privacy varies
LEAST_SPAN = 0.1  # of a share's axis
_BARS = 12  # settings in one picture of costs
Value = Callable[[RunRecord], float | None]


def utility(study: Study, palette: Palette) -> Picture | None:
    """Accuracy against epsilon, a column per attack, a row per kind of privacy."""
    caption = (
        "Final test accuracy against the epsilon that is proven for everything released, for the client that pays "
        "most; ∞ is the same run without privacy. "
    )
    return _curves(
        study,
        palette,
        lambda r: r.final_accuracy,
        list(study.attacks),
        ("privacy-utility", "Accuracy against epsilon", "test accuracy", caption),
        share=True,
    )


def detection(study: Study, palette: Palette) -> Picture | None:
    """Area under the ROC of the scores against epsilon."""
    caption = (
        "How well agreement scores tell bad participants from honest ones (AUC, 50 % is guessing) against epsilon: "
        "noise hides bad clients too. "
    )
    return _curves(
        study,
        palette,
        lambda r: r.detection.auc if r.detection is not None else None,
        [a for a in study.attacks if a != NO_ATTACK],
        ("privacy-detection", "Detection of bad clients against epsilon", "detection AUC", caption),
        share=True,
    )


def robustness(study: Study, palette: Palette) -> Picture | None:
    """What an attack costs, against epsilon: accuracy without it minus accuracy under it, at the same seed."""
    if NO_ATTACK not in study.attacks:
        return None
    rows = zip(study.cells["facet"], study.cells["algorithm"], study.cells["attack"], study.records, strict=True)
    clean: dict[tuple[str, str, int], float] = {}
    place: dict[str, tuple[str, str]] = {}
    for facet, algorithm, attack, record in rows:
        place[record.cell] = (facet, algorithm)
        if attack == NO_ATTACK:
            clean[facet, algorithm, record.seed] = record.final_accuracy

    def lost(record: RunRecord) -> float | None:
        before = clean.get((*place[record.cell], record.seed))
        return None if before is None else before - record.final_accuracy

    caption = (
        "Points of accuracy that an attack takes away, against epsilon: accuracy without attack minus accuracy under "
        "it, at the same seed and the same privacy. Lower is more robust. "
    )
    return _curves(
        study,
        palette,
        lost,
        [a for a in study.attacks if a != NO_ATTACK],
        ("privacy-robustness", "Robustness against epsilon", "points lost", caption),
        share=False,
    )


def _curves(
    study: Study,
    palette: Palette,
    value: Value,
    attacks: Sequence[str],
    words: tuple[str, str, str, str],
    *,
    share: bool,
) -> Picture | None:
    slug, title, axis, caption = words
    found = groups(study)
    names = spokesmen(study)
    lines = {(group.title, attack): _lines(study, group, attack, names, value) for group in found for attack in attacks}
    attacks = [a for a in attacks if any(any(lines[g.title, a].values()) for g in found)]
    found = [g for g in found if any(any(lines[g.title, a].values()) for a in attacks)]
    if not found:
        return None
    rows, columns = found[:ROWS], attacks[:COLUMNS]
    if len(attacks) == 1:  # kinds of privacy beside each other
        rows, across = found[: ROWS * ACROSS], min(ACROSS, len(found))
        places = [(group, attacks[0], i // across, i % across) for i, group in enumerate(rows)]
    else:
        across = len(columns)
        places = [(group, attack, i, j) for i, group in enumerate(rows) for j, attack in enumerate(columns)]
    deep = 1 + max(i for _, _, i, _ in places)
    figure, axes = panels(deep, across, height=2.6, share_x=False, wide=across > 1)
    everything: list[Line] = []
    for ax in axes.flat:
        ax.set_visible(False)
    for group, attack, i, j in places:
        ax = axes[i, j]
        ax.set_visible(True)
        own = lines[group.title, attack]
        draw_curves(ax, palette, own, share=share)
        everything += own.values()
        ax.set_xticks(range(len(group.facets)), [tick(study, f) for f in group.facets])
        ax.set_xlim(-0.4, len(group.facets) - 0.6)
        percent(ax, signed=not share)
        part = group.title.split(" · ") if len(attacks) == 1 else [attack, *([group.title] if len(found) > 1 else [])]
        ax.set_title("\n".join(shorten(text, 40) for text in part), fontsize=8.5)
        ax.set_xlabel("epsilon")
        if j == 0:
            ax.set_ylabel(axis)
    values, intervals = values_and_intervals(everything, share=share)
    for ax in axes.flat:
        ax.set_ylim(*_limits(values, [] if share else intervals, share=share))
    palette.legend(
        figure, [a for a in names if any(line for own in lines.values() for n, line in own.items() if n == a)]
    )
    table: list[list[Any]] = []
    for group in found:
        for attack in attacks:
            for algorithm, line in lines[group.title, attack].items():
                for place, seeds in line:
                    facet = group.facets[int(place)]
                    interval = mean_interval(seeds, share=share)
                    ends_ = [None if v is None else 100 * v for v in (interval.mean, interval.low, interval.high)]
                    table.append(
                        [group.title, attack, algorithm, tick(study, facet).replace("\n", " "), *ends_, interval.n]
                    )
    notes = left_out(len(found), len(rows), "kinds of privacy") + left_out(len(attacks), len(columns), "attacks")
    data = Table(["setting", "attack", "algorithm", "epsilon", f"{axis} (%)", "low", "high", "seeds"], table)
    alt = (
        f"{title}: {len(rows) * len(columns)} panels, {len(table)} points from {min(values):.2f} to {max(values):.2f}."
    )
    return finish(figure, slug, title, caption + seeds_note(everything), alt, data, notes + spoken_for(study))


def _limits(values: Sequence[float], intervals: Sequence[Interval], *, share: bool) -> tuple[float, float]:
    """Of the y axis: all single seeds and these bars; shares that are all alike still span ``LEAST_SPAN``."""
    ends = [e for v in intervals for e in (v.low, v.high) if e is not None]
    low, high = min([*values, *ends]), max([*values, *ends])
    low = max(0.0, min(low, high - LEAST_SPAN)) if share else low
    pad = 0.05 * (high - low) + 0.005
    return low - pad, min(1.02, high + pad) if share else high + pad


def _lines(study: Study, group: Group, attack: str, names: Sequence[str], value: Value) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for algorithm in names[:LINES]:
        line: Line = []
        for place, facet in enumerate(group.facets):
            seeds = [v for r in study.runs(Condition(facet, attack), algorithm) if (v := value(r)) is not None]
            if seeds:
                line.append((float(place), seeds))
        lines[algorithm] = line
    return lines


def _settings(study: Study) -> list[tuple[str, RunRecord]]:
    """One run of every (algorithm, setting) with a proof: attacks change nothing that honest clients release."""
    found: dict[tuple[str, str], RunRecord] = {}
    for i, row in zip(study.cells.index, study.cells.itertuples(), strict=True):
        record = study.records[i]
        if proven_epsilon(record) is not None:
            key = (str(row.algorithm), str(row.facet))
            if key not in found or record.seed < found[key].seed:
                found[key] = record
    return [(f"{algorithm} · {facet}", record) for (algorithm, facet), record in found.items()]


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
    found: dict[tuple[str, str], RunRecord] = {}
    for i, row in zip(study.cells.index, study.cells.itertuples(), strict=True):
        record, key = study.records[i], (str(row.algorithm), str(row.facet))
        if record.privacy is not None and (key not in found or record.seed < found[key].seed):
            found[key] = record
    named = [(f"{algorithm} · {facet}, seed {r.seed}", r) for (algorithm, facet), r in found.items()]
    return named[:most], max(0, len(named) - most)
