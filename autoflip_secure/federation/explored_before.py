"""What explorers came to in earlier blocks of a sweep, kept in the process that ran them, as far as there is room.

Cells that differ in algorithm or attack explore alike, and a sweep puts many of them in different blocks. What an
explorer comes to depends on its job alone where the trainer promises that (``trainer.bits: stack``), so it is the same
to the bit whether it is trained again or taken from here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor

ROOM = 64 * 2**20
"""Bytes of deviations that are kept; what was asked for longest ago goes first."""

Found = tuple[Tensor, tuple[float, ...]]
"""The deviation of one explorer (params,), and its loss in each epoch."""


class ExploredBefore:
    """Belongs to one sweep in one process: everything that the sweep's blocks share is taken as equal."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._used = 0
        self._found: OrderedDict[Hashable, Found] = OrderedDict()

    def get(self, key: Hashable) -> Found | None:
        """What was found under ``key``; None: nothing, or it had to go."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def put(self, key: Hashable, deviation: Tensor, losses: tuple[float, ...]) -> None:
        """Keep it, if there is room; it must not be changed afterwards."""
        if key in self._found or deviation.nbytes > self._room:
            return
        self._found[key] = (deviation, losses)
        self._used += deviation.nbytes
        while self._used > self._room:
            _, (oldest, _) = self._found.popitem(last=False)
            self._used -= oldest.nbytes
