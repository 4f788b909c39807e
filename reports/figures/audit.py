"""Figures of an audit: bounds from above and below, membership ROC, label inference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from autoflip_secure.records.audit import AuditRecord, EmpiricalEpsilon
from autoflip_secure.records.proven import who
from autoflip_secure.records.rounding import lower_text, upper_text
from autoflip_secure.reports.figures.drawing import in_table
from autoflip_secure.reports.figures.style import INK, MUTED, RULE, Picture, finish, panels
from autoflip_secure.reports.study.audited import named
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.wording.audit import ceiling_text
from autoflip_secure.terminal.counting import count_of

_WIDE = 56  # characters of a setting's name beside an axis
_SHOWN = 10  # settings in one figure; more are in its table
_PREFERRED = ("LiRA on gradients", "LiRA", "loss threshold")  # by how much they use; never by what they found
_RED = "#c1272d"
_FEWEST = 1e-3  # false positive rate at the left end of a ROC
_LOOKS = {"plain": "#7d848d", "squared": "#de8f05", "as sent": "#0173b2", "securely summed": "#029e73"}


def _fitted(name: str) -> str:
    """A name beside an axis: cut in the middle, as both ends tell settings apart."""
    half = _WIDE // 2
    return name if len(name) <= _WIDE else f"{name[: half - 1]}…{name[-half:]}"


def _shared_end(names: Sequence[str]) -> str:
    """The last parts that all names share: beside an axis they would take the place of what tells settings apart."""
    parts = [name.split(", ") for name in names]
    shared = 0
    while len(parts) > 1 and all(len(p) > shared + 1 for p in parts) and len({p[-1 - shared] for p in parts}) == 1:
        shared += 1
    return "".join(f", {part}" for part in parts[0][len(parts[0]) - shared :]) if shared else ""


def _planted(what: str) -> str:
    """What an attack planted: the beginning of its description.

    >>> _planted("noise images among the samples of client 3, everything that it sent")
    'noise images'
    """
    return re.split(r" among | at |,", what)[0]


def _which(bound: EmpiricalEpsilon) -> str:
    """Which releases under which noise, in few words."""
    return bound.noise if bound.part == "everything" else f"{bound.part}, {bound.noise}"


def _told(bound: EmpiricalEpsilon) -> str:
    """What stands beside a bar."""
    upper = "nothing proven" if bound.proven is None else f"≤ {upper_text(bound.proven)} proven"
    upper += "" if bound.claimed is None else f" ({upper_text(bound.claimed)} claimed)"
    words = f"≥ {lower_text(bound.lower)} shown, {upper}, at most {ceiling_text([bound])}"
    if bound.violated:
        return f"{words} VIOLATED"
    return words if bound.can_fail or bound.proven is None else f"{words}: cannot fail"


def bounds(records: Sequence[AuditRecord]) -> Picture | None:
    """For each audited mechanism the proven epsilon as a bar, what attackers showed as a dot in it."""
    rows: list[tuple[str, Any]] = []
    for name, record in named(records):
        rows += [(name, bound) for bound in record.empirical]
    if not rows:
        return None
    shown = [(name, bound) for name, bound in rows if name in {n for n, _ in named(records)[:_SHOWN]}]
    figure, axes = panels(1, 1, height=0.46 * len(shown) + 0.9)
    ax: Axes = axes[0, 0]
    ax.set_xscale("symlog", linthresh=1.0)
    top = max(2.0, *(b.ceiling for _, b in shown), *(b.proven or 0.0 for _, b in shown)) * 1.3
    for place, (_, bound) in enumerate(shown):
        if bound.proven is not None:
            ax.barh(place, bound.proven, height=0.56, color="#0173b2", alpha=0.28, linewidth=0)
            ax.plot([bound.proven] * 2, [place - 0.28, place + 0.28], color="#0173b2", lw=2)
        colour = _RED if bound.violated else INK
        ax.plot([0, bound.lower], [place, place], color=colour, lw=1.2)
        ax.plot([bound.lower], [place], marker="o", ms=5.5, color=colour)
        ax.plot([bound.ceiling], [place], marker="|", ms=9, color=MUTED)
        words = _told(bound)
        ax.text(1.01, place, words, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5,
                color=colour if bound.violated else MUTED)  # fmt: skip
    end = _shared_end(list(dict.fromkeys(name for name, _ in shown)))
    ticks_of = [
        f"{_fitted(name.removesuffix(end))}\n{_planted(b.what)}, {who(b.observer)}, {_which(b)}" for name, b in shown
    ]
    ax.set_yticks(range(len(shown)), ticks_of, fontsize=8.5)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, top)
    ticks = [t for t in (0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= top]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.xaxis.minorticks_off()
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("epsilon (linear up to 1, then logarithmic)")
    fields = (
        "unit", "observer", "what", "part", "noise", "factor", "relation", "runs", "canaries", "guesses", "right",
        "delta", "confidence", "lower", "ceiling", "proven", "violated",
    )  # fmt: skip
    columns, table = ["setting", *fields], [[n, *(getattr(b, field) for field in fields)] for n, b in rows]
    caption = (
        "Bars end at the proven epsilon; dots mark the lower bound that an attack showed at the same delta (all of "
        "one setting jointly with 95 % confidence), strokes the most that it could have shown. A dot beyond the end "
        "of its bar means that noise, sensitivity or accounting is wrong; a bar that ends beyond its stroke cannot "
        "be refuted."
    )
    worst = max(shown, key=lambda row: row[1].lower)
    alt = f"{len(shown)} audited mechanisms; the largest lower bound is {lower_text(worst[1].lower)} ({worst[0]})."
    return finish(
        figure, "bounds", "Proven and shown", caption, alt, Table(columns, table), in_table(len(named(records)), _SHOWN)
    )


def membership(records: Sequence[AuditRecord]) -> Picture | None:
    """ROC of the first of :data:`_PREFERRED` on logarithmic axes: a panel for updates, one for the model."""
    pairs = named(records)
    views = ["updates of one client", "final global model"]
    lines: list[tuple[str, str, Any]] = []
    for name, record in pairs[:_SHOWN]:
        for view in views:
            found = [m for m in record.membership if (m.view == views[1]) == (view == views[1])]
            if found:
                lines.append((view, name, min(found, key=lambda m: _PREFERRED.index(m.attack))))
    if not lines:
        return None
    names = list(dict.fromkeys(name for _, name, _ in lines))
    colours = dict(zip(names, sns.color_palette("colorblind", len(names)).as_hex(), strict=True))
    figure, axes = panels(1, 2, height=3.5, wide=True)
    for ax, view in zip(axes.flat, views, strict=True):
        grid = np.geomspace(_FEWEST, 1, 50)
        ax.plot(grid, grid, color=RULE, lw=1.2)
        for _, name, result in (line for line in lines if line[0] == view):
            false_positive = np.array([point[0] for point in result.roc])
            true_positive = np.array([point[1] for point in result.roc])
            ax.step(np.maximum(false_positive, _FEWEST), np.maximum(true_positive, _FEWEST), where="post",
                    color=colours[name], lw=1.6)  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(_FEWEST, 1)
        ax.set_ylim(_FEWEST, 1.1)
        ticks = [0.001, 0.01, 0.1, 1.0]
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_ticks(ticks, ["0.1 %", "1 %", "10 %", "100 %"])
        ax.minorticks_off()
        ax.set_title(view)
        ax.set_xlabel("false positive rate")
    axes[0, 0].set_ylabel("true positive rate")
    end = _shared_end(names)
    handles = [Line2D([], [], color=colours[name], lw=2, label=_fitted(name.removesuffix(end))) for name in names]
    figure.legend(handles=handles, loc="outside upper left", ncols=2 if len(names) > 1 else 1, columnspacing=1.6)
    columns = ["setting", "view", "attack", "members", "others", "AUC", "AUC low", "AUC high"]
    columns += ["TPR at 1 % FPR", "low", "high", "TPR at 0.1 % FPR", "low ", "high "]
    table: list[list[Any]] = []
    for name, record in pairs:
        for m in record.membership:
            ends = [v for e in (m.auc, m.at_1_percent, m.at_01_percent) for v in (e.value, e.low, e.high)]
            table.append([name, m.view, m.attack, m.members, m.others, *ends])
    caption = (
        "Membership inference: true positive rate against false positive rate, on logarithmic axes, because a few "
        "confident hits matter more than many uncertain ones. Updates are decoded into gradients of samples (LiRA on "
        "gradients) where the model is not too large, else, as the final model, judged by their confidence (LiRA); "
        "the table has every attack. The grey diagonal is guessing."
    )
    top = max(lines, key=lambda line: line[2].auc.value)
    largest = f"{top[2].auc.value:.2f} ({top[1]}, {top[0]})"
    alt = f"ROC curves of {count_of(len(lines), 'attack')}; the largest area is {largest}."
    return finish(
        figure, "membership", "Membership inference", caption, alt, Table(columns, table), in_table(len(pairs), _SHOWN)
    )


def labels(records: Sequence[AuditRecord]) -> Picture | None:
    """Share of a client's classes that is guessed, for every view, beside chance."""
    pairs = [(name, record) for name, record in named(records) if record.labels]
    if not pairs:
        return None
    shown = pairs[:_SHOWN]
    figure, axes = panels(1, 1, height=0.3 * sum(len(r.labels) + 0.6 for _, r in shown) + 0.8)
    ax: Axes = axes[0, 0]
    place, ticks = 0.0, []
    for name, record in shown:
        start = place
        for look in record.labels:
            ax.barh(place, look.accuracy.value, height=0.8, color=_LOOKS[look.view], linewidth=0)
            ax.plot([look.accuracy.low, look.accuracy.high], [place, place], color=INK, lw=1)
            ax.plot([look.chance] * 2, [place - 0.45, place + 0.45], color=_RED, lw=1.6)
            place += 1
        ticks.append(((start + place - 1) / 2, _fitted(name.removesuffix(_shared_end([n for n, _ in pairs])))))
        place += 0.6
    ax.set_yticks([at for at, _ in ticks], [text for _, text in ticks])
    ax.set_ylim(place - 0.9, -0.7)
    ax.set_xlim(0, 1.02)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("share of a client's classes that is guessed")
    looks = [look for look in _LOOKS if any(view.view == look for _, r in shown for view in r.labels)]
    handles = [Line2D([], [], color=_LOOKS[look], lw=6, label=look, solid_capstyle="butt") for look in looks]
    handles.append(Line2D([], [], color=_RED, lw=1.6, label="chance"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    columns = ["setting", "view", "clients", "accuracy", "low", "high", "chance", "AUC"]
    table = [
        [n, v.view, v.clients, v.accuracy.value, v.accuracy.low, v.accuracy.high, v.chance, v.auc]
        for n, r in pairs
        for v in r.labels
    ]
    caption = (
        "Which classes does a client own? A curious server guesses from the exploration: from plain deviations, from "
        "their squares where FedLEx shares these, from what is actually sent, and from the sum of all clients alone, "
        "which is what a secure sum leaves it. Lines "
        "are 95 % intervals over clients; red is chance."
    )
    best = max(((v.accuracy.value, n, v.view) for n, r in shown for v in r.labels), default=(0.0, "", ""))
    alt = f"Label inference for {len(shown)} settings; the best guess is {100 * best[0]:.0f} % right ({best[2]})."
    return finish(
        figure, "labels", "Label inference", caption, alt, Table(columns, table), in_table(len(pairs), _SHOWN)
    )
