"""Numbers of what happens in a run: rounds count from 1, the exploration before them is 0.

Explorers may explore again after a round (``exploration.every``). Such a phase has a number beyond every round's, so
that its draws have addresses of their own.
"""

from __future__ import annotations

from typing import Final

_AGAIN: Final = 1_000_000  # more than a run has rounds


def exploration_after(round_: int) -> int:
    """Number of the exploration after ``round_`` rounds; the one before round 1 is 0.

    >>> exploration_after(0), exploration_after(5)
    (0, 1000005)
    """
    return _AGAIN + round_ if round_ else 0


def is_exploration(number: int) -> bool:
    """Whether a phase is an exploration.

    >>> [is_exploration(number) for number in (0, 1, 100_000, exploration_after(1))]
    [True, False, False, True]
    """
    return number == 0 or number > _AGAIN
