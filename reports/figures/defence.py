"""How well agreement scores separate malicious clients from honest ones: the scores, and their ROC."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from autoflip_secure.records.roc import area_under_curve, roc
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.drawing import fitting, left_out, spoken_for, spokesmen
from autoflip_secure.reports.figures.marks import naming, series
from autoflip_secure.reports.figures.style import MUTED, RULE, Palette, Picture, finish, panels
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.labels import kind_words, told_apart
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.terminal.counting import listed

PANELS = 6
LINES = 8  # algorithms in one ROC panel; the table has all
MALICIOUS_MARK = "#e5484d"
NOT_SAMPLED = "#e6e9ee"  # light in a dark page too, so that a score of 0 stands out


def score_map(study: Study) -> Picture | None:
    """Client × round: the score of every participant, for one run per scoring algorithm and kind of attack."""
    chosen = _chosen(study)
    if not chosen:
        return None
    shown = chosen[:PANELS]
    columns = min(2, len(shown))
    clients = max(len(run.client_samples) for _, _, run in shown)
    height = min(4.2, 0.9 + 0.13 * clients)
    figure, axes = panels(
        -(-len(shown) // columns), columns, height=height, share_x=False, share_y=False, wide=columns > 1
    )
    rows: list[list[object]] = []
    names = told_apart([algorithm for _, algorithm, _ in shown], 50)
    for ax, (condition, algorithm, run) in zip(axes.flat, shown, strict=False):
        _heat(ax, run)
        where = fitting(str(condition), columns)
        ax.set_title(names[algorithm] + "\n" * (where.count("\n") + 1))
        ax.text(0, 1.025, where, color=MUTED, fontsize=8, transform=ax.transAxes)
        for entry in run.rounds:
            for client, malicious, score in zip(entry.participants, entry.malicious, entry.scores or [], strict=True):
                rows.append(
                    [str(condition), algorithm, run.seed, entry.round, client, "yes" if malicious else "no", score]
                )
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    bar = figure.colorbar(axes.flat[0].images[0], ax=axes, shrink=0.6, pad=0.01, aspect=28)
    bar.set_label("agreement score")
    bar.outline.set_visible(False)
    seeds = sorted({run.seed for _, _, run in shown})
    which = f"seed{'s' if len(seeds) > 1 else ''} {listed([*map(str, seeds)])}"
    caption = (
        f"Agreement score of every participant, round by round ({which}). Rows are clients; the truly "
        "malicious ones are on top, with a red number and bar, and the defence never sees that ground truth. A score "
        "of 1 counts in full, 0 is filtered; grey: not sampled in that round."
    )
    columns_ = ["condition", "algorithm", "seed", "round", "client", "malicious", "score"]
    alt = (
        f"Heat maps of agreement scores, client by round, for {len(shown)} runs; truly malicious clients on top. "
        + _contrast(rows)
    )
    notes = left_out(len(chosen), len(shown), "runs") + spoken_for(study)
    return finish(
        figure, "agreement-scores", "Agreement scores, client by round", caption, alt, Table(columns_, rows), notes
    )


def _chosen(study: Study) -> list[tuple[Condition, str, RunRecord]]:
    """Of every kind of attack the condition hardest for the baseline; lowest seed; every algorithm that scores."""
    found = []
    for kind in study.attack_kinds:
        condition = _hardest(study, kind)
        for algorithm in spokesmen(study) if condition else []:
            runs = [r for r in study.runs(condition, algorithm) if any(e.scores for e in r.rounds)] if condition else []
            if runs and condition:
                found.append((condition, algorithm, runs[0]))
    order = {a: i for i, a in enumerate([*study.headline, *study.algorithms][::-1])}  # the headline's first
    return sorted(found, key=lambda f: -order[f[1]])


def _hardest(study: Study, kind: str) -> Condition | None:
    """The condition of this kind of attack, over all facets, that costs the baseline (or everybody) the most."""
    found = [c for f in study.facets if (c := study.hardest(f, kind))]
    who = [study.baseline] if study.baseline else study.algorithms
    means = {c: [v for a in who for v in study.values(c, a).values()] for c in found}
    return min((c for c in found if means[c]), key=lambda c: float(np.mean(means[c])), default=None)


def _heat(ax: Axes, run: RunRecord) -> None:
    malicious = set(run.malicious_clients)
    order = sorted(range(len(run.client_samples)), key=lambda k: (k not in malicious, k))
    place = {client: i for i, client in enumerate(order)}
    image = np.full((len(order), max(e.round for e in run.rounds)), np.nan)
    for entry in run.rounds:
        for client, score in zip(entry.participants, entry.scores or [], strict=True):
            image[place[client], entry.round - 1] = score
    colours = sns.color_palette("viridis", as_cmap=True)
    extent = (0.5, image.shape[1] + 0.5, len(order) - 0.5, -0.5)
    ax.imshow(image, cmap=colours, norm=Normalize(0, 1), aspect="auto", interpolation="nearest", extent=extent)
    every = -(-len(order) // 30)
    ax.set_yticks(range(0, len(order), every), [str(order[i]) for i in range(0, len(order), every)], fontsize=7)
    for i, tick in zip(range(0, len(order), every), ax.get_yticklabels(), strict=True):
        if order[i] in malicious:
            tick.set_color(MALICIOUS_MARK)
            tick.set_fontweight("bold")
    if malicious:
        ax.axhline(len(malicious) - 0.5, color="#222222", lw=0.9)
        ax.plot(
            [0.5, 0.5], [-0.5, len(malicious) - 0.5], color=MALICIOUS_MARK, lw=4, clip_on=False, solid_capstyle="butt"
        )
    ax.grid(visible=False)
    ax.set_facecolor(NOT_SAMPLED)
    ax.tick_params(length=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("round")
    ax.set_ylabel("client")
    sns.despine(ax=ax, left=True, bottom=True)


def _contrast(rows: list[list[object]]) -> str:
    means = {}
    for truth in ("yes", "no"):
        values = [float(str(r[6])) for r in rows if r[5] == truth]
        means[truth] = f"{np.mean(values):.2f}" if values else "none"
    return f"Mean score of malicious participants {means['yes']}, of the others {means['no']}."


def detection_roc(study: Study, palette: Palette) -> Picture | None:
    """ROC pooled over rounds, participants, seeds and strengths: a panel per kind of attack and facet."""
    places = [(f, k) for k in study.attack_kinds for f in study.facets]
    found: dict[tuple[str, str], dict[str, tuple[list[tuple[float, float]], float]]] = {}
    table: list[list[object]] = []
    for facet, kind in places:
        conditions = [c for c in study.conditions if c.facet == facet and study.attacks[c.attack]["kind"] == kind]
        for algorithm in spokesmen(study):
            runs = [r for c in conditions for r in study.runs(c, algorithm)]
            points, area = _pooled(runs)
            if area is None or len(found.get((facet, kind), {})) == LINES:
                continue
            found.setdefault((facet, kind), {})[algorithm] = (points, area)
        table += [row for c in conditions for a in study.algorithms if (row := _detection_row(study, c, a))]
    if not found:
        return None
    shown = list(found)[:PANELS]
    columns = 2 if len(study.facets) == 4 else min(3, len(study.facets))
    figure, axes = panels(-(-len(shown) // columns), columns, height=2.9)
    for ax, (facet, kind) in zip(axes.flat, shown, strict=False):
        ax.plot([0, 1], [0, 1], color=RULE, lw=1.2)
        names = told_apart(found[facet, kind], 34 if columns < 3 else 28)
        for i, (algorithm, (points, area)) in enumerate(found[facet, kind].items()):
            x, y = zip(*points, strict=True)
            colour = palette.colours[algorithm]
            (line,) = ax.plot(x, y, color=colour, lw=palette.widths[algorithm])
            series(line, algorithm)
            place = 0.05 + 0.085 * (len(found[facet, kind]) - 1 - i)
            label = f"{names[algorithm]} {_two_digits(area)}"
            text = ax.text(0.915, place, label, ha="right", transform=ax.transAxes, fontsize=8.5)
            (dash,) = ax.plot([0.93, 0.98], [place + 0.022] * 2, color=colour, lw=2.5, transform=ax.transAxes)
            for one in (text, dash):
                naming(one, algorithm)
        ax.set_title(fitting(f"{facet} · {kind_words(kind)}", columns))
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.02, 1.02)
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("true positive rate")
    for ax in axes[-1]:
        ax.set_xlabel("false positive rate")
    drawn = [a for a in study.algorithms if any(a in found[s] for s in shown)]
    palette.legend(figure, drawn)
    caption = (
        "How well the score separates malicious participants from the others: every (round, participant) pair of all "
        "seeds and strengths of an attack, with the area under that curve beside the name. The diagonal is guessing. "
        "The table gives, per condition, the mean over seeds of the area (AUC, with its 95 % interval) and the rates "
        "at the threshold 0.5, below which a client is flagged."
    )
    columns_ = [
        "facet",
        "attack",
        "algorithm",
        "AUC",
        "low",
        "high",
        "true positive rate",
        "false positive rate",
        "AUC by client",
        "seeds",
    ]
    best = max((area, a) for lines in found.values() for a, (_, area) in lines.items())
    worst = min((area, a) for lines in found.values() for a, (_, area) in lines.items())
    ends = " to ".join(f"{_two_digits(area)} ({a})" for area, a in (worst, best))
    alt = f"ROC curves in {len(shown)} panels. Areas from {ends}."
    notes = left_out(len(found), len(shown), "panels") + spoken_for(study)
    return finish(figure, "detection", "Detection of malicious clients", caption, alt, Table(columns_, table), notes)


def _two_digits(area: float) -> str:
    """An area as text; only a perfect one is called 1.00.

    >>> _two_digits(1.0), _two_digits(0.9962), _two_digits(0.5)
    ('1.00', '> 0.99', '0.50')
    """
    return "> 0.99" if 0.995 <= area < 1 else f"{area:.2f}"


def _pooled(runs: list[RunRecord]) -> tuple[list[tuple[float, float]], float | None]:
    scores = [-s for r in runs for e in r.rounds if e.scores is not None for s in e.scores]
    malicious = [b for r in runs for e in r.rounds if e.scores is not None for b in e.malicious]
    area = area_under_curve(malicious, scores)
    if area is None:
        return [], None
    points = list(zip(*roc(malicious, scores), strict=True))
    if len(points) > 120:  # enough for a smooth line
        keep = np.unique(np.linspace(0, len(points) - 1, 120).round().astype(int))
        points = [points[i] for i in keep]
    return points, area


def _detection_row(study: Study, condition: Condition, algorithm: str) -> list[object] | None:
    found = [r.detection for r in study.runs(condition, algorithm) if r.detection is not None]
    areas = [d.auc for d in found if d.auc is not None]
    if not areas:
        return None
    area = mean_interval(areas, share=True)
    rates = [
        float(np.mean(values)) if (values := [v for d in found if (v := getattr(d, name)) is not None]) else None
        for name in ("true_positive_rate", "false_positive_rate", "client_auc")
    ]
    return [condition.facet, condition.attack, algorithm, area.mean, area.low, area.high, *rates, area.n]
