r"""How long a sweep still takes, from how long its blocks have taken so far.

Blocks run side by side. With :math:`c` seconds a unit of work, measured over all blocks that were begun, each block
that runs needs :math:`c\,w_b (1 - s_b)` more; those that wait go, in order, to whichever worker is free first. What is
left is the time until the last of them ends, so one block alone at the end counts in full, however many workers idle.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Sequence

_LEAST = 0.02  # share of a block below which its time is that of starting it


class Pace:
    """Work done so far, block by block."""

    def __init__(self, work: Sequence[float], workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Blocks begin in order, the first of them now. ``work`` is that of each block, in any unit, above zero."""
        self._work, self._clock = list(work), clock
        self._shares = [0.0] * len(self._work)
        self._workers = max(1, min(workers, len(self._work)))
        self._begun = [clock()] * self._workers
        self._ended: dict[int, float] = {}

    @property
    def shares(self) -> tuple[float, ...]:
        """How much of each block is done, in [0, 1]."""
        return tuple(self._shares)

    def advance(self, block: int, share: float) -> None:
        """``share`` of a block, counted from 0, is done; shares never fall and end at 1."""
        self._shares[block] = min(1.0, max(self._shares[block], share))

    def finish(self, block: int) -> None:
        """A block is done, and the worker takes the next."""
        now = self._clock()
        self._shares[block] = 1.0
        if block not in self._ended:
            self._ended[block] = now
            if len(self._begun) < len(self._work):
                self._begun.append(now)

    def left(self) -> float | None:
        """Seconds until everything is done, never below zero; None as long as nothing can be said."""
        now = self._clock()
        begun = range(len(self._begun))
        told = [block for block in begun if self._shares[block] >= _LEAST]
        done = sum(self._work[block] * self._shares[block] for block in told)
        if not done:
            return None
        spent = sum(self._ended.get(block, now) - self._begun[block] for block in told)
        rate = max(0.0, spent) / done
        running = [rate * self._work[b] * (1 - self._shares[b]) for b in begun if b not in self._ended]
        return side_by_side(running, [rate * work for work in self._work[len(begun) :]], self._workers)


def side_by_side(running: Iterable[float], waiting: Iterable[float], workers: int) -> float:
    """Seconds until all jobs are done.

    Args:
        running: what each job that runs still needs.
        waiting: what each of the others needs, in the order in which they are begun.
        workers: as many jobs run at the same time.

    >>> side_by_side([4, 1], [2, 3], workers=2)
    6
    """
    free = [*running]
    free += [0] * (workers - len(free))
    heapq.heapify(free)
    for job in waiting:
        heapq.heapreplace(free, free[0] + job)
    return max(free, default=0)
