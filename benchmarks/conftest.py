"""A table of ratios at the end of the session: measured, goal, and by how much a goal is missed.

A suite asks for the fixture ``ratios`` and calls ``ratios("stacked / sequential", 3.1, ">= 2.5", "MLP, 20 clients")``.

Every benchmark is timed in processor seconds, and a fixed reference workload is timed right before and right after it.
``compare.py`` compares time / reference between runs: that ratio means the same on another machine, seconds do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch

torch.set_num_threads(1)

_GENERATOR = torch.Generator().manual_seed(0)
_MATRIX = torch.randn(256, 256, generator=_GENERATOR)
_NUMBERS = torch.randn(200_000, generator=_GENERATOR)


def reference_workload() -> None:
    """A product of matrices that fit the caches, eight times, and a sort: arithmetic, branches and memory."""
    for _ in range(8):
        _MATRIX @ _MATRIX
    _NUMBERS.sort()


def reference_seconds(rounds: int = 7) -> float:
    """Processor seconds of the reference workload, the best of ``rounds``."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        reference_workload()
        times.append(time.process_time() - began)
    return min(times)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=time.process_time))


@pytest.fixture(autouse=True)
def _reference(request: pytest.FixtureRequest) -> Iterator[None]:
    """Puts the reference's time beside the benchmark's in the saved file."""
    if "benchmark" not in request.fixturenames:
        yield
        return
    extra = request.getfixturevalue("benchmark").extra_info
    before = reference_seconds()
    yield
    extra["reference_seconds"] = min(before, reference_seconds())


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
