r"""Real rows as integers of the ring Z/2^64, where sums are exact and do not depend on their order.

.. math:: q(x) = \mathrm{round}(2^b x), \quad |q(x) 2^{-b} - x| \le 2^{-b-1}

Rounding, never truncation: truncated values are wrong by half a unit on average, and a mean keeps that. A sum of n rows
is exact while :math:`n\,|x|\,2^b < 2^{63}`; a sum of squares of P entries while
:math:`(2^b \|x\| + \sqrt{P}/2)^2 < 2^{63}`. The number of bits follows from public bounds alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoflip_secure.errors import InputError

RING_BITS = 64
LEAST_BITS = 20  # resolution 1e-6, of 1 in sums, of the largest norm in squares; deviations are that small
MOST_BITS = 52  # of a double; as many below the bound where that is less than 1


@dataclass(frozen=True)
class FixedPoint:
    """``bits`` fractional bits for values up to ``bound`` in absolute value; :meth:`for_sums` chooses the bits."""

    bits: int
    bound: float

    @classmethod
    def for_sums(cls, bound: float, weight: int) -> FixedPoint:
        """As many bits as a sum of rows allows.

        Args:
            bound: largest absolute value of an entry.
            weight: largest sum of the absolute integer weights; the number of clients when all weights are 1.
        """
        return cls._fit(
            bound, RING_BITS - 1 - math.log2(bound * weight), LEAST_BITS, f"a sum of {weight} values up to {bound:g}"
        )

    @classmethod
    def for_squares(cls, norm: float, params: int, weight: int = 1) -> FixedPoint:
        """As many bits as squared norms allow, and sums of the rows with weights up to ``weight`` in all.

        Args:
            norm: largest L2 norm of a row; by Cauchy-Schwarz also what bounds its products.
            params: entries of a row; each may be half a unit too large after rounding.
            weight: largest sum of the absolute integer weights in a sum of rows.
        """
        root = math.sqrt(2.0 ** (RING_BITS - 1)) - math.sqrt(params) / 2
        squares = math.log2(root / norm) if root > 0 else -RING_BITS
        bits = min(squares, RING_BITS - 1 - math.log2(norm * weight))
        least = LEAST_BITS - math.log2(norm)  # of the norm, not of 1
        return cls._fit(norm, bits, least, f"squared norms of {params} values with norm up to {norm:g}")

    @classmethod
    def _fit(cls, bound: float, most: float, least: float, what: str) -> FixedPoint:
        finest = MOST_BITS + max(0, math.floor(-math.log2(bound)))
        bits = math.ceil(min(most, finest + 1)) - 1  # strictly inside the ring
        if bits < least:
            raise InputError(
                f"fixed point: {what} leave {bits} fractional bits in a ring of {RING_BITS}, but at least "
                f"{math.ceil(least)} are needed; lower the bound (clip the rows) or use fewer clients"
            )
        return cls(bits, bound)

    @property
    def unit(self) -> float:
        """Value of the last bit."""
        return 2.0**-self.bits

    def encode(self, rows: Float[Tensor, "rows params"], clients: Sequence[int]) -> Int[Tensor, "rows params"]:
        """Rows as ring elements.

        Args:
            rows: any floating type; the arithmetic is in double.
            clients: whose rows they are, for the message of an error.

        Raises:
            InputError: an entry is not finite or exceeds ``bound``.
        """
        rows = rows.double()
        most = self.bound * (1 + 1e-12)
        if not within(rows, most):
            row, column = (int(i) for i in (~(rows.abs() <= most)).nonzero()[0])
            raise InputError(
                f"client {clients[row]}: value {float(rows[row, column]):g} at coordinate {column} is not within "
                f"+-{self.bound:g}, so {self.bits} bits cannot carry it; clip the row, or leave the client out"
            )
        return (rows * 2.0**self.bits).round_().to(torch.int64)

    def decode(
        self, integers: Int[Tensor, "*shape"], times: FixedPoint | None = None, power: int = 1
    ) -> Float[Tensor, "*shape"]:
        """Ring elements (signed) as doubles: of sums (``power`` 1), of squares (2), of products with ``times``."""
        bits = power * self.bits + (times.bits if times is not None else 0)
        return integers.double() * 2.0**-bits


def within(x: Float[Tensor, "*shape"], most: float) -> bool:
    """Whether all entries are finite and in [-most, most]."""
    if x.numel() == 0:
        return True
    low, high = x.aminmax()
    return bool((low >= -most) & (high <= most))
