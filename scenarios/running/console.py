"""Progress for people: a bar with rate and time left on a terminal, a line that stays in its place in a notebook.

Elsewhere it is a plain line on stderr every ten seconds.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from autoflip_secure.scenarios.running.sweep import Listener
from autoflip_secure.terminal.counting import count_of
from autoflip_secure.terminal.visible import visible

PLAIN_EVERY = 10.0  # seconds
LINE_EVERY = 0.5


def estimate(done: float, seconds: float, left: float | None) -> str:
    """``3.1 cells/s, 0:23 left``; nothing before the first cell.

    Args:
        done: cells.
        seconds: that they took.
        left: seconds left; None where nobody can say.

    >>> estimate(31, 10.0, 22.6)
    '3.1 cells/s, 0:23 left'
    >>> estimate(2, 400.0, 11000.0)
    '200.0 s/cell, 3:03:20 left'
    """
    if done < 1 or seconds <= 0:
        return ""
    rate = done / seconds
    speed = f"{rate:.1f} cells/s" if rate >= 1 else f"{1 / rate:.1f} s/cell"
    return speed if left is None else f"{speed}, {_clock(left)} left"


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def stage(what: str, waited: float) -> Iterator[None]:
    """A line of its own for work without numbers, while it lasts: on a terminal, or for those who waited before.

    Args:
        what: is going on, as in "writing the report".
        waited: seconds that the command has taken so far.
    """
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(what):
            yield
        return
    if waited >= PLAIN_EVERY:
        _say(what)
    yield


@contextlib.contextmanager
def listener(cells: int) -> Iterator[Listener]:
    """Shows progress while the context lasts."""
    shown = _bar if sys.stderr.isatty() else _line if in_notebook() else _plain
    with shown(cells) as listening:
        yield listening


def in_notebook() -> bool:
    """Whether a Jupyter kernel shows what this process has to say."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


class _Count:
    """Cells of the stage that runs: ``12/48 cells``, and of a sweep in two stages which one it is."""

    def __init__(self, cells: int) -> None:
        self.cells, self.of = cells, ""
        self.began = time.monotonic()

    def begin(self, name: str, cells: int) -> None:
        """Another stage, with so many cells."""
        self.cells, self.of, self.began = cells, f"{name}: ", time.monotonic()

    def text(self, done: float) -> str:
        return f"{self.of}{int(done)}/{self.cells}"


@contextlib.contextmanager
def _bar(cells: int) -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[count]} cells"),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        counted = _Count(cells)
        task = bar.add_task("cells", total=None, count=counted.text(0), speed="preparing")
        began: list[float] = []

        def progress(done: float, total: int, left: float | None) -> None:
            if not began:
                began.append(time.monotonic())
            already = counted.cells - total
            bar.update(
                task, total=counted.cells, completed=already + done, count=counted.text(already + done),
                speed=estimate(done, time.monotonic() - began[0], left),
            )  # fmt: skip

        def begin(name: str, own: int) -> None:
            counted.begin(name, own)
            began.clear()
            bar.update(task, total=own, completed=0, count=counted.text(0), speed="preparing", refresh=True)

        yield Listener(
            progress,
            lambda text: console.print(f"note: {visible(text)}", markup=False, highlight=False),
            # drawn at once: where the first block is quick, the bar's clock would pass it over
            lambda todo, workers: bar.update(task, speed=_starting(todo, workers), refresh=True),
            begin,
        )


@contextlib.contextmanager
def _line(cells: int) -> Iterator[Listener]:
    """One line under the notebook's cell, written anew every half second."""
    from IPython.display import display

    def show(text: str) -> None:
        handle.update({"text/plain": text}, raw=True)

    counted = _Count(cells)
    handle = display({"text/plain": f"0/{cells} cells, preparing"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
    yield Listener(
        _now_and_then(counted, LINE_EVERY, show),
        _note,
        lambda todo, workers: show(f"{counted.text(counted.cells - todo)} cells, {_starting(todo, workers)}"),
        counted.begin,
    )
    show(count_of(cells, "cell"))


@contextlib.contextmanager
def _plain(cells: int) -> Iterator[Listener]:
    counted = _Count(cells)

    def begin(name: str, own: int) -> None:
        counted.begin(name, own)
        _say(f"{counted.of}{count_of(own, 'cell')}")

    yield Listener(_now_and_then(counted, PLAIN_EVERY, _say), _note, stage=begin)


def _now_and_then(
    counted: _Count, every: float, show: Callable[[str], None]
) -> Callable[[float, int, float | None], None]:
    """Progress as a line of text, at most once in so many seconds."""
    last = counted.began

    def progress(done: float, total: int, left: float | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every:
            last = now
            speed = estimate(done, now - counted.began, left)
            show(f"{counted.text(counted.cells - total + done)} cells{', ' + speed if speed else ''}")

    return progress


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _note(text: str) -> None:
    _say(f"note: {visible(text)}")


def _starting(cells: int, workers: int) -> str:
    return f"starting: {count_of(cells, 'cell')}, {count_of(workers, 'worker')}, exploration first"
