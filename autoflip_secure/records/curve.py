"""The numbers of a run's rounds side by side: what nearly every reader asks of every run of a sweep.

A column is a list with an entry for each round, so that ten thousand runs are ten thousand short lists of numbers and
not two hundred thousand objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from autoflip_secure.records.run import RoundRecord


class Curve(NamedTuple):
    """Lists over rounds, in their order; None as in :class:`.RoundRecord`."""

    round: list[int]  # from 1
    participants: list[int]  # how many took part
    rejected: list[int]  # how many of them sent what could not be used
    train_loss: list[float | None]
    test_accuracy: list[float | None]
    test_loss: list[float | None]
    density: list[float]
    step_norm: list[float]

    @classmethod
    def of(cls, rounds: Sequence[RoundRecord]) -> Self:
        """The same numbers of the rounds of a record."""
        return cls(
            [one.round for one in rounds],
            [len(one.participants) for one in rounds],
            [len(one.rejected) for one in rounds],
            [one.train_loss for one in rounds],
            [one.test_accuracy for one in rounds],
            [one.test_loss for one in rounds],
            [one.density for one in rounds],
            [one.step_norm for one in rounds],
        )
