"""The trial of an aggregator from outside that is asked for several cells at once: each gets what it gets alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from autoflip_secure.interfaces import Aggregator, RoundView
from autoflip_secure.scenarios.running.trial_judge import Judge, equal


def try_cells(judge: Judge, aggregator: Aggregator, view: RoundView, start: Callable[[], Any]) -> None:
    """Ask for three cells together, and for each alone.

    Args:
        judge: who refuses.
        aggregator: the plug-in.
        view: the round of two of the cells; the third has other rows.
        start: gives a state before round 1.

    Raises:
        InputError: they are not the same to the bit.
    """
    views = [view, replace(view, updates=-0.5 * view.updates.flip(0)), view]
    rows = [one.updates for one in views]

    def ask(some: list[RoundView]) -> list[Any]:
        return list(aggregator.aggregate_cells([start() for _ in some], some))

    together = judge.ask(f"aggregate_cells of {len(views)} cells", lambda: ask(views), *rows)
    alone = [judge.ask("aggregate_cells of a cell", partial(ask, [one]), *rows) for one in views]
    if not equal(together, [answer for answers in alone for answer in answers]):
        raise judge.refuse(
            "aggregate_cells gives a cell other numbers beside others than alone; give one answer for each cell, in "
            "their order, that depends on that cell only, to the last bit (docs/plugins.md), or write `aggregate` alone"
        )
