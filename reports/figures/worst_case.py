"""What a suite of attacks leaves of every algorithm: each attack in a heat map, the worst of them as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from autoflip_secure.reports.figures.drawing import bars, fitting
from autoflip_secure.reports.figures.marks import belonging
from autoflip_secure.reports.figures.style import INK, MUTED, Palette, Picture, finish, panels, percent
from autoflip_secure.reports.study.labels import percent as as_percent
from autoflip_secure.reports.study.labels import told_apart
from autoflip_secure.reports.study.threat_cards import Cards
from autoflip_secure.reports.study.worst_cases import Defended, WorstCases
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.tables.worst_cases import attacks_table, worst_table

PANELS = 9
_COLUMNS, _FEW, _NAME = 3, 8, 32  # panels beside each other, where few attacks share the width; letters of a name
WORST_MARK = "#e5484d"
_LIGHT = 0.55  # of a colour from which ink on it is dark


def worst_bars(groups: Sequence[WorstCases], palette: Palette, cards: Cards) -> Picture | None:
    """The worst case of every algorithm as a bar with its interval, beside its accuracy without attack."""
    shown = groups[:PANELS]
    if not shown:
        return None
    order = _order(groups)
    figure, axes = _grid(shown, 2, height=0.55 + 0.24 * len(order))
    names = told_apart([name for group in shown for name in group.attacks], _NAME)
    for ax, group in zip(axes.flat, shown, strict=False):
        for one in group.defended:
            with belonging(ax, one.algorithm):
                _bar(ax, palette, one, order.index(one.algorithm), cards, names)
        _rows(ax, order, group)
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x")
        percent(ax, "x")
        ax.set_xlim(0, _end(shown))
        ax.set_xlabel("accuracy under the worst attack")
    caption = (
        "Accuracy under the attack that is worst for each algorithm, by the mean over seeds; its name and threat card "
        "are beside it. "
        "Thin lines are 95 % intervals of the worst case over the whole suite; a circle is the accuracy without attack."
    )
    return finish(
        figure, "worst-case-bars", "Worst case of every algorithm", caption,
        f"Bar charts of worst-case accuracy in {len(shown)} settings. {_extremes(shown)}", worst_table(groups),
        _notes(groups, shown),
    )  # fmt: skip


def heat_map(groups: Sequence[WorstCases], cards: Cards) -> Picture | None:
    """Algorithm × attack: mean accuracy, the worst attack of every algorithm framed."""
    shown = groups[:PANELS]
    if not shown:
        return None
    order = _order(groups)
    attacks = list(dict.fromkeys(name for group in shown for name in group.attacks))
    columns = next(n for n in ((_COLUMNS, 2, 1) if len(attacks) <= _FEW else (2, 1)) if not len(shown) % n)
    figure, axes = _grid(shown, columns, height=(0.7 if len(shown) > columns else 1.6) + 0.24 * len(order))
    for ax, group in zip(axes.flat, shown, strict=False):
        _heat(ax, group, order, attacks, cards)
        _rows(ax, order, group)
    bar = figure.colorbar(axes.flat[0].images[0], ax=axes, shrink=0.6, pad=0.01, aspect=28)
    bar.set_label("accuracy")
    percent(bar.ax)
    bar.outline.set_visible(False)
    caption = (
        "Mean accuracy over seeds of every algorithm under every attack, in per cent. A red frame marks the attack "
        "that is worst for the algorithm; an empty place was not run."
    )
    table: Table = attacks_table(groups)
    alt = f"Heat maps of accuracy, algorithm by attack, in {len(shown)} settings. {_extremes(shown)}"
    return finish(
        figure, "attack-heat-map", "Every algorithm under every attack", caption, alt, table, _notes(groups, shown)
    )


def _grid(shown: Sequence[WorstCases], columns: int, *, height: float) -> tuple[Figure, np.ndarray]:
    columns = min(columns, len(shown))
    figure, axes = panels(-(-len(shown) // columns), columns, height=height, share_x=True, share_y=True)
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    for ax in list(axes.flat)[max(0, len(shown) - columns) : len(shown)]:  # with nothing below
        ax.tick_params(labelbottom=True)
    return figure, axes


def _order(groups: Sequence[WorstCases]) -> list[str]:
    """Algorithms by their worst case, averaged over the settings that have them: the highest first."""
    found: dict[str, list[float]] = {}
    for group in groups:
        for one in group.defended:
            found.setdefault(one.algorithm, []).append(one.worst.accuracy.mean)
    return sorted(found, key=lambda name: -float(np.mean(found[name])))


def _end(groups: Sequence[WorstCases]) -> float:
    """Where the axis of accuracy ends: behind every bar, circle and interval, at 1 at most."""
    every = [one for group in groups for one in group.defended]
    shares = [
        share for one in every for share in (one.worst.accuracy.high, one.worst.accuracy.mean) if share is not None
    ]
    return min(1.0, 1.05 * max([*shares, *(one.clean.mean for one in every if one.clean)]) + 0.01)


def _bar(ax: Axes, palette: Palette, one: Defended, at: int, cards: Cards, names: Mapping[str, str]) -> None:
    colour, worst = palette.colours[one.algorithm], one.worst
    ax.barh(at, worst.accuracy.mean, height=0.62, color=colour, alpha=0.75, linewidth=0)
    bars(ax, [at], [worst.accuracy], INK, vertical=False)
    if one.clean is not None:
        ax.scatter([one.clean.mean], [at], s=26, facecolors="none", edgecolors=MUTED, linewidths=1.2, zorder=3)
    ax.text(
        1.02, at, _with_badge(worst.attack, names[worst.attack], cards), va="center", fontsize=7.5, color=MUTED,
        transform=ax.get_yaxis_transform(),
    )  # fmt: skip


def _heat(ax: Axes, group: WorstCases, order: list[str], attacks: list[str], cards: Cards) -> None:
    image = np.full((len(order), len(attacks)), np.nan)
    for one in group.defended:
        for name, accuracy in one.accuracies.items():
            image[order.index(one.algorithm), attacks.index(name)] = accuracy.mean
    colours, scale = sns.color_palette("viridis", as_cmap=True), Normalize(0, 1)
    ax.imshow(image, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
    for (row, column), value in np.ndenumerate(image):
        if np.isfinite(value):
            light = float(np.dot(colours(scale(value))[:3], (0.3, 0.59, 0.11))) > _LIGHT
            ax.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                color="#111111" if light else "#ffffff",
            )  # fmt: skip
    for one in group.defended:
        corner = attacks.index(one.worst.attack) - 0.5, order.index(one.algorithm) - 0.5
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=WORST_MARK, linewidth=1.8, clip_on=False, zorder=4))
    ax.set_xticks(
        range(len(attacks)),
        [_with_badge(name, short, cards) for name, short in told_apart(attacks, _NAME).items()],
        rotation=60,
        ha="right",
        fontsize=7.5,
    )
    ax.grid(visible=False)
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)


def _rows(ax: Axes, order: list[str], group: WorstCases) -> None:
    ax.set_yticks(range(len(order)), told_apart(order).values())
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_title(fitting(group.where, _COLUMNS))


def _with_badge(attack: str, short: str, cards: Cards) -> str:
    """An attack by the ``short`` form of its name, and the letters of its threat card."""
    badge = cards.badge(cards.named_by(attack))
    return f"{short}  {badge}" if badge else short


def _extremes(groups: Sequence[WorstCases]) -> str:
    """Who stands highest and lowest, for those who do not see the picture."""

    def told(one: Defended) -> str:
        return f"{one.algorithm} {as_percent(one.worst.accuracy.mean)} under {one.worst.attack}"

    return " ".join(
        f"{group.where}: highest {told(group.defended[0])}, lowest {told(group.defended[-1])}." for group in groups
    )


def _notes(groups: Sequence[WorstCases], shown: Sequence[WorstCases]) -> list[str]:
    return [f"{len(shown)} of {len(groups)} settings are drawn; the table has all."] if len(groups) > len(shown) else []
