"""A table of ratios at the end of the session: measured, goal, and by how much a goal is missed.

A suite asks for the fixture ``ratios`` and calls ``ratios("stacked / sequential", 3.1, ">= 2.5", "MLP, 20 clients")``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

torch.set_num_threads(1)


@dataclass(frozen=True)
class Ratio:
    """One row of the table; ``goal`` is ``">= number"``, ``"<= number"`` or empty."""

    name: str
    value: float
    goal: str = ""
    comment: str = ""

    @property
    def verdict(self) -> str:
        if not self.goal:
            return ""
        relation, bound = self.goal.split()
        limit = float(bound)
        if self.value >= limit if relation == ">=" else self.value <= limit:
            return "met"
        return f"missed by {abs(self.value / limit - 1):.0%}"


ROWS = pytest.StashKey[list[Ratio]]()


@pytest.fixture
def ratios(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a row to the table."""

    def add(name: str, value: float, goal: str = "", comment: str = "") -> None:
        request.config.stash.setdefault(ROWS, []).append(Ratio(name, value, goal, comment))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("measured against goals, one core")
    table = [("what", "measured", "goal", "", "how")]
    table += [(r.name, f"{r.value:,.2f}", r.goal, r.verdict, r.comment) for r in rows]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for what, measured, goal, verdict, how in table:
        terminalreporter.write_line(
            f"{what:<{widths[0]}}  {measured:>{widths[1]}}  {goal:<{widths[2]}}  {verdict:<{widths[3]}}  {how}".rstrip()
        )
