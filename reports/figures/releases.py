"""What is released: the epsilon of each release, epsilon over rounds, and whose ledger the report shows.

Epsilon is what the ledger proves for everything released, against whoever sees most of those against whom anything is
proven. For a setting stands the run of which least is proven, whatever its seed and attack.
"""

from __future__ import annotations

from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from autoflip_secure.records.privacy import Guarantee
from autoflip_secure.records.proven import Bound, foremost, weakest, who
from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.drawing import left_out
from autoflip_secure.reports.figures.style import INK, Picture, finish, panels, powers
from autoflip_secure.reports.study.labels import in_lines
from autoflip_secure.reports.study.settings import settings
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table, Upper
from autoflip_secure.terminal.counting import count_of, some

_BARS = 12  # settings in one picture
_NAMED = 4  # settings in a note


def costs(study: Study) -> Picture | None:
    """A bar per setting: epsilon of the updates alone, and what the other releases add to it."""
    rows = [(name, bound, *_parts(guarantee, bound)) for name, guarantee, bound in _bounds(study)]
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: (row[1].observer, row[1].relation, row[1].epsilon))[:_BARS]
    names = [in_lines(f"{name}, against {who(bound.observer)}", 70) for name, bound, _, _ in shown]
    lines = max(name.count("\n") for name in names) + 1
    figure, axes = panels(1, 1, height=(0.2 + 0.13 * lines) * len(shown) + 0.9)
    ax: Axes = axes[0, 0]
    colours = sns.color_palette("colorblind", 2).as_hex()
    for place, (_, bound, alone, _) in enumerate(shown):
        ax.barh(place, alone, color=colours[0], height=0.6, linewidth=0)
        ax.barh(place, bound.epsilon - alone, left=alone, color=colours[1], height=0.6, linewidth=0)
        words = f"{upper_text(bound.epsilon)} ({bound.relation}, δ = {upper_delta(bound.delta)})"
        ax.annotate(
            words,
            (bound.epsilon, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
    ax.set_yticks(range(len(shown)), names)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 2.4 * max(bound.epsilon for _, bound, _, _ in shown))  # room for what each number is about
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("proven epsilon")
    handles = [Line2D([], [], color=c, lw=6, label=text, solid_capstyle="butt") for c, text in
               zip(colours, ("updates alone", "what the other releases add"), strict=True)]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    columns = ["setting", "against", "neighbours", "delta", "other releases", "updates alone", "everything"]
    table: list[list[Any]] = [
        [n, who(b.observer), b.relation, Upper(b.delta), others, Upper(alone), Upper(b.epsilon)]
        for n, b, alone, others in rows
    ]
    caption = (
        "Proven epsilon of one run, composed over every release, for every honest client: the updates of all rounds "
        "alone (with what clients send beside them), and what other releases (the exploration) add. Counting training "
        "alone would claim too little. Bars can be compared where observer, neighbours and delta are the same."
    )
    name, bound, alone, _ = max(rows, key=lambda row: row[1].epsilon - row[2])
    most = upper_text(bound.epsilon - alone)
    alt = f"{len(shown)} bars; other releases add at most {most} to epsilon ({name})."
    notes = left_out(len(rows), len(shown), "settings") + _without(study)
    return finish(figure, "privacy-ledger", "What each release costs", caption, alt, Table(columns, table), notes)


def _parts(guarantee: Guarantee, bound: Bound) -> tuple[float, str]:
    """Epsilon of the updates alone for the client that pays most, and the names of the other releases."""
    worst = max(guarantee.clients, key=lambda entry: entry.epsilon or 0.0)
    alone = bound.epsilon if worst.training is None else min(worst.training, bound.epsilon)
    return alone, ", ".join(
        sorted({r.name for r in guarantee.releases if not r.name.startswith("updates")})
    ) or "nothing else"


def over_rounds(study: Study) -> Picture | None:
    """Epsilon so far, round by round."""
    found = [(name, guarantee, bound) for name, guarantee, bound in _bounds(study) if guarantee.over_rounds]
    if not found:
        return None
    shown = sorted(found, key=lambda one: one[2].epsilon)[:_BARS]
    alike: dict[Any, list[str]] = {}  # curves that would hide each other are one
    for name, guarantee, bound in shown:
        key = (tuple(guarantee.over_rounds), who(bound.observer), bound.relation)
        alike.setdefault(key, []).append(name)
    said = [in_lines(f"{_names(n)}, against {who_} ({relation})", 120) for (_, who_, relation), n in alike.items()]
    figure, axes = panels(1, 1, height=3.0 + 0.19 * (len(said) + sum(text.count("\n") for text in said)))
    ax: Axes = axes[0, 0]
    colours = sns.color_palette("colorblind" if len(alike) <= 10 else "husl", len(alike)).as_hex()
    for colour, (curve, _, _) in zip(colours, alike, strict=True):
        ax.step(*zip(*curve, strict=True), where="post", color=colour, lw=1.7)
    ends = [guarantee.over_rounds[-1][1] for _, guarantee, _ in shown]
    if max(ends) > 30 * max(min(ends), 1e-3):
        ax.set_yscale("log")
        powers(ax)
    ax.set_xlabel("round (0: before training)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("proven epsilon so far")
    handles = [Line2D([], [], color=c, lw=2, label=label) for c, label in zip(colours, said, strict=True)]
    figure.legend(handles=handles, loc="outside upper left", ncols=1)
    deltas = " to ".join(dict.fromkeys(upper_delta(f(b.delta for _, _, b in shown)) for f in (min, max)))
    caption = (
        "The epsilon that is proven for what was released up to each round, by Rényi accounting, for the client that "
        f"has paid most by then; δ = {deltas}. Where another accountant has a smaller bound for the whole run, the "
        "ledger has that one. Curves can be compared where observer, neighbours and delta are the same."
    )
    low, high = (upper_text(f(ends)) for f in (min, max))
    alt = f"{len(shown)} curves of epsilon over rounds, ending between {low} and {high}."
    table: list[list[Any]] = [
        [name, who(b.observer), b.relation, Upper(b.delta), round_, Upper(epsilon)]
        for name, guarantee, b in found
        for round_, epsilon in guarantee.over_rounds
    ]
    return finish(
        figure,
        "privacy-rounds",
        "Epsilon over rounds",
        caption,
        alt,
        Table(["setting", "against", "neighbours", "delta", "round", "epsilon"], table),
        left_out(len(found), len(shown), "settings") + _without(study),
    )


def _names(names: list[str]) -> str:
    """Whose curve it is."""
    more = f" and {count_of(len(names) - 1, 'setting')} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def ledgers(study: Study, most: int = 8) -> tuple[list[tuple[str, RunRecord]], int]:
    """One run of every private setting for the table of the ledger, and how many more there are."""
    found = [(f"{name}, seed {runs[0].seed}", runs[0]) for name, runs in settings(study)]
    return found[:most], max(0, len(found) - most)


def _bounds(study: Study) -> list[tuple[str, Guarantee, Bound]]:
    """Every setting of which anything is proven for all runs, with the guarantee against whoever sees most."""
    found = []
    for name, runs in settings(study):
        bound, ledger = foremost(runs[0].privacy), runs[0].privacy
        if bound is not None and ledger is not None:
            others = [other for run in runs if (other := foremost(run.privacy)) is not None]
            whole = weakest([b for b in others if (b.observer, b.relation) == (bound.observer, bound.relation)])
            found.append((name, next(g for g in ledger.guarantees if g.observer == bound.observer), whole))
    return found


def _without(study: Study) -> list[str]:
    """A note on the private settings that have no guarantee at all, and so no place in the picture."""
    names = [name for name, runs in settings(study) if foremost(runs[0].privacy) is None]
    return [f"No guarantee, so nothing to draw: {some(names, _NAMED, '; ')}."] if names else []
