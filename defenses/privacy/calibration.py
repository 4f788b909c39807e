"""From a target epsilon to the noise that keeps it."""

from __future__ import annotations

from collections.abc import Callable

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Accountant
from autoflip_secure.records.rounding import upper_text

LEAST, MOST = 0.02, 1e4
PRECISION = 1e-3  # relative; the noise is never too small


def noise_multiplier_for(
    target: float, epsilon_at: Callable[[float], float | None], accountant: Accountant = "rdp"
) -> float:
    """The smallest noise multiplier, within :data:`PRECISION`, with which epsilon does not exceed ``target``.

    Args:
        target: epsilon, > 0.
        epsilon_at: epsilon of everything released, as a falling function of the noise multiplier; None = no bound.
        accountant: for the message.

    Raises:
        InputError: even with :data:`MOST` the target is not reached.
    """

    def enough(noise: float) -> bool:
        epsilon = epsilon_at(noise)
        return epsilon is not None and epsilon <= target

    low = high = 1.0
    while not enough(high):
        low, high = high, high * 2
        if high > MOST:
            reached = epsilon_at(MOST)
            raise InputError(
                f"privacy.target_epsilon = {target:g} cannot be reached: even with noise_multiplier = {MOST:g} "
                f"everything released has epsilon {'without bound' if reached is None else upper_text(reached, 5)} "
                f"({accountant}); raise target_epsilon or delta, or release less (rounds, epochs)"
            )
    while low == high:  # as given to begin with: look for noise that is too little
        low = high / 2
        if low < LEAST:
            return high
        if enough(low):
            high = low
    while high > low * (1 + PRECISION):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
