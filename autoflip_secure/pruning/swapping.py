r"""When masks of constant density are moved, and how much of them: the timetable of RigL (Evci et al. 2020).

.. math:: \text{in rounds } t = R, 2R, \dots < T: \quad
          k_l = \Big\lfloor \frac{\alpha}{2} \Big(1 + \cos\frac{\pi t}{T}\Big) \cdot \mathrm{live}_l \Big\rfloor

weights of each hidden tensor l. Where T is not above R, as in a short run, there is one such round, at T/2.
"""

from __future__ import annotations

from math import cos, floor, pi
from typing import Annotated

from pydantic import Field

from autoflip_secure.interfaces import Pruner
from autoflip_secure.pruning.erk import Density


class Swapping(Pruner):
    """The timetable, and the density, of a mask that all clients share and the server moves."""

    density: Density = 0.1
    every: Annotated[int, Field(ge=1, le=100_000, description="R: rounds between moves of the mask")] = 10
    until: Annotated[
        float, Field(ge=0, le=1, description="T / rounds: share of the rounds in which the mask is moved")
    ] = 0.6
    share: Annotated[
        float, Field(ge=0, le=1, description="alpha: share of each tensor's live weights that is moved at first")
    ] = 0.2

    def moves(self, round_: int, rounds: int) -> bool:
        """Whether the mask is moved after this round."""
        last = int(self.until * rounds)
        if self.every >= last:
            return 0 < round_ < last and round_ == last // 2
        return 0 < round_ < last and round_ % self.every == 0

    def last_move(self, rounds: int) -> int:
        """The last round after which it is; 0: there is none."""
        return next((number for number in range(int(self.until * rounds), 0, -1) if self.moves(number, rounds)), 0)

    def moved(self, live: int, round_: int, rounds: int) -> int:
        """k_l, of a tensor with so many live weights; 0 from T on."""
        last = int(self.until * rounds)
        return floor(self.share / 2 * (1 + cos(pi * round_ / last)) * live) if round_ < last else 0
