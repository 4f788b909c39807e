"""What the engine needs of secure sums: a place to put rows where nobody can read them, and how a scenario asks for it.

The engine knows no party, no socket and no CrypTen: :class:`SecureSum` is handed to it as the trainer is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from autoflip_secure.secret_rows import SecretRows


@dataclass(frozen=True)
class Traffic:
    """Bytes on the wire, headers included."""

    to_parties: int
    from_parties: int
    between_parties: int

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.to_parties - earlier.to_parties,
            self.from_parties - earlier.from_parties,
            self.between_parties - earlier.between_parties,
        )


class SharedBatch(SecretRows, ABC):
    """Rows at the parties, and what happened on their way there."""

    events: tuple[str, ...]  # who was left out, and why

    @abstractmethod
    def forget(self) -> None:
        """Let the parties forget the rows."""


class SecureSum(ABC):
    """Splits rows over parties; see :mod:`defenses.secure_aggregation`."""

    parties: int

    @abstractmethod
    def share(self, rows: Int[Tensor, "clients params"], clients: tuple[int, ...]) -> SharedBatch:
        """Split every row over the parties. Clients whose shares do not reach all of them are left out."""

    @property
    @abstractmethod
    def traffic(self) -> Traffic:
        """Bytes so far."""
