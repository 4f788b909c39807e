"""SIGTERM and SIGHUP as Ctrl-C is: an exception in the main thread, so that what is open is closed in order."""

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

    A signal that is ignored already (``nohup``) stays ignored. Outside the main thread nothing changes.

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
        raised.append(Interrupted(number))
        raise raised[0]

    for number in mine:
        signal.signal(number, stop)
    try:
        yield raised
    finally:
        for number in mine:
            signal.signal(number, before[number] or signal.SIG_DFL)
