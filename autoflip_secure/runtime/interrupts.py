"""SIGTERM and SIGHUP as Ctrl-C is: an exception in the main thread, so that what is open is closed in order.

Ctrl-C itself is noted too: code that runs inside a library (a serialiser inside pydantic) may turn its exception into
another one, and what asked the program to end is then known all the same.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))  # Windows has no SIGHUP


class Interrupted(KeyboardInterrupt):
    """Carries the number of the signal that asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[list[Interrupted]]:
    """While the context lasts, the first of :data:`SIGNALS` raises :class:`Interrupted`; further ones are ignored.

    Every Ctrl-C raises it too, where Python's own handler is in charge. A signal that is ignored already (``nohup``)
    stays ignored. Outside the main thread nothing changes.

    Yields:
        What was raised, for those who catch something else that came of it.
    """
    raised: list[Interrupted] = []
    if threading.current_thread() is not threading.main_thread():
        yield raised
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for other in mine:
            signal.signal(other, signal.SIG_IGN)
        note(number, frame)

    def note(number: int, frame: FrameType | None) -> NoReturn:
        raised.append(Interrupted(number))
        raise raised[-1]

    for number in mine:
        signal.signal(number, stop)
    if own := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)
    try:
        yield raised
    finally:
        for number in mine:
            signal.signal(number, before[number] or signal.SIG_DFL)
        if own:
            signal.signal(signal.SIGINT, signal.default_int_handler)
