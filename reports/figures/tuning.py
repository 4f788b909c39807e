"""What tuning tried: accuracy without attack against the tuned value, a panel per setting, the choice marked."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from autoflip_secure.records.tuning import Tried
from autoflip_secure.reports.figures.drawing import fitting
from autoflip_secure.reports.figures.marks import belonging
from autoflip_secure.reports.figures.style import INK, Palette, Picture, finish, panels, percent
from autoflip_secure.reports.study.labels import axis_words, is_number, shorten
from autoflip_secure.reports.study.tuned import Choice, value_in_words
from autoflip_secure.reports.tables.tuning import curves_table
from autoflip_secure.terminal.counting import count_of

PANELS = 9
_COLUMNS, _TICKS, _NAME = 3, 16, 22  # panels beside each other; values that have room for their names; letters of one


def tuning_curves(made: Sequence[Choice], palette: Palette) -> Picture | None:
    """Mean accuracy of every algorithm with every value that was tried; nothing where nothing was tuned."""
    facets = list(dict.fromkeys(one.facet for one in made))
    shown = facets[:PANELS]
    if not shown:
        return None
    paths = list(made[0].record.chosen)
    columns = min(_COLUMNS, len(shown))
    figure, axes = panels(-(-len(shown) // columns), columns, height=2.3)
    for ax, facet in zip(axes.flat, shown, strict=False):
        own = [one for one in made if one.facet == facet]
        for one in own:
            with belonging(ax, one.algorithm):
                _curve(ax, palette, one)
        _values(ax, own[0])
        ax.set_title(fitting(facet, _COLUMNS))
        ax.margins(y=0.12)  # a circle is not cut off
        percent(ax)
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel(", ".join(map(axis_words, paths)))
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy without attack")
    palette.legend(figure, list(dict.fromkeys(one.algorithm for one in made)))
    seeds = count_of(len(made[0].record.seeds), "tuning seed")
    caption = (
        f"Mean accuracy over {seeds}, not reported, of every algorithm with every value that was tried, where nobody "
        "attacks. A circle marks the value that it was given in all reported runs of the setting."
    )
    told = "; ".join(f"{one.algorithm} in {one.facet}: {one.chosen}" for one in made if one.facet in shown)
    alt = f"Curves of accuracy against the tuned value in {count_of(len(shown), 'setting')}. Chosen: {told}."
    few = f"{len(shown)} of {len(facets)} settings are drawn; the table has all."
    return finish(
        figure, "tuning-curves", "What was tried, and what was chosen", caption, alt, curves_table(made),
        [few] if len(facets) > len(shown) else [],
    )  # fmt: skip


def _ordered(one: Choice) -> list[Tried]:
    """Candidates from the smallest to the largest where one number was tuned, else as listed."""
    tried = one.record.tried
    return sorted(tried, key=lambda each: float(next(iter(each.values.values())))) if _numbers(one) else tried


def _numbers(one: Choice) -> bool:
    """Whether what was tried can be put in order."""
    tried = one.record.tried
    return len(one.record.chosen) == 1 and all(is_number(value) for each in tried for value in each.values.values())


def _curve(ax: Axes, palette: Palette, one: Choice) -> None:
    tried = _ordered(one)
    colour, marker = palette.colours[one.algorithm], palette.markers[one.algorithm]
    means = [each.mean for each in tried]
    width = palette.widths[one.algorithm] if _numbers(one) else 0  # between names there is nothing
    ax.plot(range(len(means)), means, color=colour, marker=marker, markersize=4.5, lw=width)
    at = next(index for index, each in enumerate(tried) if each is one.record.best)
    ax.scatter([at], [means[at]], s=90, facecolors="none", edgecolors=INK, linewidths=1.2, zorder=4)


def _values(ax: Axes, one: Choice) -> None:
    names = [", ".join(value_in_words(value) for value in each.values.values()) for each in _ordered(one)]
    room = len(names) <= _TICKS
    crowded = room and sum(map(len, names)) > 3 * _TICKS
    ax.set_xticks(range(len(names)), [shorten(name, _NAME) for name in names] if room else [""] * len(names))
    if crowded:
        ax.tick_params(axis="x", labelrotation=60)
