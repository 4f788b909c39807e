r"""Sign flipping: malicious clients send the opposite of what they learned, c times as long.

.. math:: u_k \leftarrow -c\, u_k
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Generator, Tensor, where

from autoflip_secure.interfaces import UpdateAttack


class SignFlip(UpdateAttack):
    """Malicious clients send their update with its sign flipped."""

    factor: Annotated[float, Field(gt=0, le=1e6, description="c, times the honest update's length")] = 1.0

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Sequence[Generator]) -> Tensor:
        """All rows (clients, params), those of malicious clients flipped."""
        return where(malicious[:, None], -self.factor * updates, updates)
