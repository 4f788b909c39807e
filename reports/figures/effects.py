"""Effects of several factors and their interactions: a row each, filled where a word survives the correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoflip_secure.records.compared import ATTACK
from autoflip_secure.reports.figures.conditions import limits_of
from autoflip_secure.reports.figures.drawing import bars, in_table
from autoflip_secure.reports.figures.style import MUTED, Picture, finish, panels, percent
from autoflip_secure.reports.study.contrasts import Effect, Effects
from autoflip_secure.reports.study.labels import told_apart
from autoflip_secure.reports.tables.text import Table, percents

ROWS = 48  # drawn; the table has all
_COLOURS = ("#0173b2", "#029e73", "#d55e00", "#cc78bc", "#7d848d", "#9a8f00")
_HOW = (
    "Points of accuracy, paired by seed: mean and 95 % interval, not corrected. A filled mark is better, worse or "
    "equal after correction for the {count} rows of this figure; a hollow one is not settled, wherever its bar lies."
)


def pictures(found: Effects | None) -> list[Picture]:
    """Two figures: what every factor does, and how they depend on each other; none of a sweep with one question."""
    if found is None:
        return []
    order = found.factors
    mains, interactions = found.mains, found.interactions
    drawn = []
    if mains:
        caption = f"What every factor does, in each place on its own. {_HOW.format(count=len(mains))}"
        drawn.append(_forest(mains, order, "effects", "Effect of every factor", caption))
    if interactions:
        caption = (
            "How much more the first factor does where the second one is: a difference of two effects. "
            f"{_HOW.format(count=len(interactions))}"
        )
        drawn.append(_forest(interactions, order, "interactions", "How factors depend on each other", caption))
    return drawn


def _forest(found: Sequence[Effect], order: Mapping[str, list[str]], slug: str, title: str, caption: str) -> Picture:
    shown = list(found)[:ROWS]
    figure, axes = panels(1, 1, height=0.7 + 0.19 * len(shown))
    ax = axes[0, 0]
    for at, effect in enumerate(shown):
        colour = _COLOURS[list(order).index(effect.factor) % len(_COLOURS)]
        interval = effect.against.difference
        bars(ax, [at], [interval], colour, vertical=False)
        face = colour if effect.against.settled else "none"
        ax.scatter([interval.mean], [at], s=30, zorder=3, facecolors=face, edgecolors=colour, linewidths=1.3)
    ax.axvline(0, color=MUTED, lw=1)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)
    names = [_row(e, order) for e in shown]
    short = told_apart(names, 80)
    ax.set_yticks(range(len(shown)), [short[name] for name in names])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    limits, cut = limits_of([e.against.difference for e in shown], True)
    ax.set_xlim(*limits)
    percent(ax, "x", signed=True)
    ax.set_xlabel("points of accuracy")
    columns = ["factor", "level", "against", "depending on", "its level", "attack", "privacy", "pairs"]
    columns += ["difference (points)", "low", "high", "seeds", "p t", "p t Holm", "verdict"]
    rows = []
    for e in found:
        pair = e.against
        where = [e.factor, e.level, e.reference, e.by, e.by_level, e.attack, e.privacy, e.pairs]
        rows.append([*where, *percents(pair.difference), pair.difference.n, pair.t_p, pair.t_holm, pair.verdict.value])
    supported = sum(e.against.settled for e in found)
    alt = f"Forest plot: {len(found)} rows, {supported} of them settled after correction."
    return finish(figure, slug, title, caption + cut, alt, Table(columns, rows), in_table(len(found), len(shown)))


def _row(effect: Effect, factors: Mapping[str, list[str]]) -> str:
    """``scores × privacy: noise σ 0.5 on 20 %``; of a factor with several levels, and of attacks, which of them."""
    levels = ((effect.factor, effect.level), (effect.by, effect.by_level))
    told = [level for factor, level in levels if factor == ATTACK or len(factors.get(factor, ())) > 2]
    return f"{effect.name}: {', '.join(p for p in (*told, effect.attack, effect.privacy) if p)}".rstrip(": ")
