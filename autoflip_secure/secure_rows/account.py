"""What readers of secret rows may reveal in a round, and what they did: numbers about each client, and one sum.

A number has 64 bits, however it was asked for: a product with a vector that is 1 in one place is an entry of the row, a
group of one coordinate its square, and a product can hold the leading bits of two or three entries. So what keeps a
row secret is that there are few numbers beside its entries, and no more than are stated here before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.models.layout import Layout
from autoflip_secure.secure_rows.secure_sum import Revealed

FEW, PER_LAYER = 18, 4  # numbers that agreement needs, and that radial needs of every layer and of what is in none
SPARSE = 32  # live coordinates for each number that code from outside may ask for


def allowance(layout: Layout, live: Bool[Tensor, " params"], *, outside: bool) -> int:
    """Numbers about each client that may be asked for in a round, beside those of the check: what built-ins need.

    Args:
        layout: of the model.
        live: coordinates that are measured in this round.
        outside: the code is not of this package: at most one number for every :data:`SPARSE` live coordinates, so that
            numbers of 64 bits are far from giving a row back.
    """
    most = max(FEW, PER_LAYER * (len(layout.layers) + 1))
    return min(most, int(live.sum()) // SPARSE) if outside else most


@dataclass
class Account:
    """What was revealed of one round's rows; shared by a reader and those made of it."""

    allowed: int | None = None  # numbers about each client; None: as many as there are
    checks: int = 0
    products: int = 0
    norms: int = 0
    stated: int = 0  # by clients about themselves
    sums: int = 0

    def spend(self, *, products: int = 0, norms: int = 0, stated: int = 0) -> None:
        """Count numbers about each client before they are revealed.

        Raises:
            InputError: they are more than are allowed.
        """
        self.products, self.norms, self.stated = self.products + products, self.norms + norms, self.stated + stated
        asked = self.products + self.norms + self.stated
        if self.allowed is not None and asked > self.allowed:
            raise InputError(
                f"the aggregator asks for {asked} numbers about each client in one round, and a secure sum reveals at "
                f"most {self.allowed} with this model and mask; ask for fewer products, groups and norms, or set "
                "secure_sum.updates: false"
            )

    @property
    def revealed(self) -> Revealed:
        """All of it; what clients say counts as products."""
        return Revealed(self.sums, self.checks + self.products + self.stated, self.norms)
