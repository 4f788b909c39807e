"""What it costs to tell participants a mask that they were not sent before (``Pruner.mask_sent``).

One bit a prunable weight, as messages carry it, or one bit a hidden unit, padded to whole bytes. Everybody knows that
before any pruning all is live. Of a pruner by which nothing is sent participants are taken to know the mask, as long as
it shrinks: weights that return nobody could name, so a mask in which some did is sent to whoever had it without them,
also where masks are drawn anew (``exploration.every``, ``guidance.matrix: per_round``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from autoflip_secure.federation.measures import digest
from autoflip_secure.models.costs import round_bytes
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import PerMask
from autoflip_secure.models.units import Units

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Cell


class ToldMasks:
    """Which mask each client was told last."""

    def __init__(self, how: Literal["nothing", "weights", "units"], layout: Layout, units: Units | None) -> None:
        self._how, self._layout, self._units = how, layout, units
        self._known = dict[int, str]()
        self._digest = PerMask(digest)
        self._last: Tensor | None = None  # the mask before, where nothing is sent
        self._returns = 0  # masks so far in which weights returned
        self._seen = dict[int, int]()  # client -> how many of these it was sent last

    @classmethod
    def of(cls, cell: Cell) -> ToldMasks:
        """As the pruner of ``cell`` has it."""
        return cls(cell.protocol.pruner.mask_sent, cell.problem.layout, cell.problem.units)

    def knows(self, client: int, mask: Tensor) -> None:
        """A client that made this mask."""
        self._known[client] = self._digest(mask)

    def bytes(self, mask: Tensor, participants: Sequence[int]) -> int:
        """Of the messages that tell these participants the mask of their round, on top of values alone."""
        if self._how == "nothing":
            return self._of_returning(mask, participants)
        name = self._digest(mask)
        before = name if bool(mask.all()) else ""  # what somebody knows who was told nothing
        new = [k for k in participants if self._known.get(k, before) != name]
        for client in participants:
            self._known[client] = name
        return len(new) * self._length(mask) if new else 0

    def _of_returning(self, mask: Tensor, participants: Sequence[int]) -> int:
        """Nothing, unless weights have returned since a participant was last told."""
        if self._last is not None and self._last is not mask:
            self._returns += bool((mask & ~self._last).any())
        self._last = mask
        new = [k for k in participants if self._seen.get(k, 0) < self._returns]
        self._seen |= dict.fromkeys(participants, self._returns)
        return len(new) * self._length(mask) if new else 0

    def _length(self, mask: Tensor) -> int:
        if self._how == "units" and self._units is not None:
            live = [own.cpu().numpy() for own in self._units.live_units(mask, self._layout)[:-1]]
            return len(np.packbits(np.concatenate(live)).tobytes())
        one = round_bytes(mask, self._layout, 1)
        return one.downlink_bitmask - one.downlink_values
