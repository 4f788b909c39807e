"""Time left: blocks that run side by side, a last block alone, and never a negative time."""

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.scenarios.running import console
from autoflip_secure.scenarios.running.console import PLAIN_EVERY, estimate, stage
from autoflip_secure.scenarios.running.pace import Pace, side_by_side

SECONDS = st.floats(0, 1e6)


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def simulated(work: list[float], workers: int, rate: float) -> Callable[[float], tuple[float | None, float]]:
    """A sweep that goes at one speed: after a time, what is said to be left, and what is."""
    ends: list[tuple[float, float]] = []
    free = [0.0] * workers
    for one in work:
        begin = min(free)
        free[free.index(begin)] = begin + one * rate
        ends.append((begin, begin + one * rate))

    def after(seconds: float) -> tuple[float | None, float]:
        clock = Clock()
        pace = Pace(work, workers, clock)
        moments = sorted({end for _, end in ends if end <= seconds} | {seconds})
        for moment in moments:
            clock.now = 100.0 + moment
            for block, (begin, end) in enumerate(ends):
                if begin <= moment < end:
                    pace.advance(block, (moment - begin) / (end - begin))
            for block, (_, end) in enumerate(ends):
                if end == moment:
                    pace.finish(block)
        return pace.left(), max(free) - seconds

    return after


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("work", [[1, 1, 1], [1, 1, 1, 1, 5], [5, 1, 1, 1], [2]])
def test_at_one_speed_the_time_left_is_exact(work: list[float], workers: int) -> None:
    after = simulated(work, workers, rate=10.0)
    for seconds in (1.0, 5.0, 9.0, 12.5, 19.0, 33.0):
        said, true = after(seconds)
        if true > 0:
            assert said == pytest.approx(true), seconds


def test_a_last_block_alone_counts_in_full() -> None:
    """Three blocks of 10 seconds, two workers: after the first two, 10 seconds are left and not five."""
    said, _ = simulated([1, 1, 1], 2, rate=10.0)(10.0)
    assert said == pytest.approx(10.0)


@given(
    work=st.lists(st.floats(0.1, 100), min_size=1, max_size=6),
    workers=st.integers(1, 8),
    events=st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 3), st.floats(-1, 50), st.booleans()), max_size=30),
)
def test_never_negative_whatever_is_reported(
    work: list[float], workers: int, events: list[tuple[int, float, float, bool]]
) -> None:
    clock = Clock()
    pace = Pace(work, workers, clock)
    for block, share, seconds, ends in events:
        clock.now += seconds  # a clock may even go back
        if ends:
            pace.finish(block % len(work))
        else:
            pace.advance(block % len(work), share)
        left = pace.left()
        assert left is None or left >= 0
        assert all(0 <= share <= 1 for share in pace.shares)


def test_nothing_is_said_before_anything_is_done() -> None:
    pace = Pace([1, 1], 2)
    assert pace.left() is None
    pace.advance(0, 0.001)
    assert pace.left() is None


@given(st.lists(SECONDS, max_size=5), st.lists(SECONDS, max_size=5), st.integers(1, 6))
def test_side_by_side_lies_between_the_bounds(running: list[float], waiting: list[float], workers: int) -> None:
    workers = max(workers, len(running))
    left = side_by_side(running, waiting, workers)
    work = sum(running) + sum(waiting)
    assert max([*running, *waiting, work / workers], default=0) <= left * (1 + 1e-9) + 1e-9
    assert left <= work / workers + max([*running, *waiting], default=0) + 1e-6


@pytest.mark.parametrize(
    ("left", "shown"), [(None, "2.0 s/cell"), (-3.0, "2.0 s/cell, 0:00 left"), (61.4, "2.0 s/cell, 1:01 left")]
)
def test_what_is_shown(left: float | None, shown: str) -> None:
    assert estimate(5, 10.0, left) == shown
    assert estimate(0.5, 10.0, left) == ""


def test_the_report_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with stage("writing the report", waited=PLAIN_EVERY - 1):
        pass
    assert capsys.readouterr().err == ""
    with stage("writing the report", waited=PLAIN_EVERY):
        assert capsys.readouterr().err == "writing the report\n"
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with stage("writing the report", waited=0):
        pass
    assert "writing the report" in capsys.readouterr().err


def test_a_bar_says_what_starts_however_quick_the_first_block_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with console.listener(4) as listening:
        listening.start(4, 1)
        listening.progress(2, 4, 1.0)  # within one tick of the bar's clock
    assert "starting: 4 cells, 1 worker, exploration first" in capsys.readouterr().err


def test_a_notebook_has_one_line_that_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what IPython offers a kernel; in a real one: ``tests/project/test_notebook.py``."""
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            shown.append(data["text/plain"])

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert display_id
        Handle().update(data, raw)
        return Handle()

    clock = Clock()
    monkeypatch.setattr(console.time, "monotonic", clock)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    shell = SimpleNamespace()  # of IPython on a terminal
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not console.in_notebook()
    shell.kernel = "a kernel"
    assert console.in_notebook()
    with console.listener(6) as listening:
        listening.start(4, 1)
        clock.now += 0.4
        listening.progress(1.0, 4, None)  # too soon after the start
        clock.now += 1.6
        listening.progress(1.0, 4, 6.0)
        listening.note("a\nsentence")
    assert shown[0] == "0/6 cells, preparing"
    assert shown[1].startswith("2/6 cells, ")
    assert shown[2:] == ["3/6 cells, 2.0 s/cell, 0:06 left", "6 cells"]
    assert capsys.readouterr().err.startswith("note: a")


def test_the_bar_says_which_stage_of_two_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with console.listener(8) as listening:
        listening.stage("stage 1 of 2 (tuning)", 12)
        listening.stage("stage 2 of 2", 1)
    assert capsys.readouterr().err.splitlines() == ["stage 1 of 2 (tuning): 12 cells", "stage 2 of 2: 1 cell"]


def test_a_stage_begins_its_count_and_its_clock_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(console.time, "monotonic", clock)
    with console.listener(8) as listening:
        listening.stage("stage 1 of 2 (tuning)", 12)
        clock.now += 100
        listening.progress(10, 12, 20.0)
        listening.stage("stage 2 of 2", 8)
        clock.now += 10
        listening.progress(5, 8, 6.0)
    assert capsys.readouterr().err.splitlines()[1::2] == [
        "stage 1 of 2 (tuning): 10/12 cells, 10.0 s/cell, 0:20 left",
        "stage 2 of 2: 5/8 cells, 2.0 s/cell, 0:06 left",
    ]
