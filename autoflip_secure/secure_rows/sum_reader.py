"""The reader of a plain mean: one sum, exact in the ring, and nothing else."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces.row_reader import Groups, Part, RowReader
from autoflip_secure.secure_rows.account import Account
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import SecretRows


class SumReader(RowReader):
    """Rows of which nothing may be learned but one mean, weighted with public whole numbers."""

    stated: ClassVar[bool] = True

    def __init__(self, rows: SecretRows, points: FixedPoint) -> None:
        self._rows, self._points, self.account = rows, points, Account(allowed=0)

    def __len__(self) -> int:
        return len(self._rows.clients)

    def mean(self, weights: Float[Tensor, " rows"]) -> Float[Tensor, " params"]:
        """See :class:`RowReader`; exact in the ring, and rounded once.

        Raises:
            InputError: weights are no whole numbers, or it is the second sum.
        """
        whole = weights.cpu().round().long()
        if self.account.sums or not torch.equal(whole.to(weights), weights):
            raise InputError(
                "a linear aggregator asks for one mean a round, with whole numbers that do not depend on the rows as "
                "weights; set linear: ClassVar[bool] = False for others"
            )
        self.account.sums += 1
        return (self._points.decode(self._rows.total(whole)) / int(whole.sum())).to(weights)

    def products(self, vectors: Tensor, part: Part | None = None) -> Tensor:
        """Refused."""
        raise _only_one()

    def squared_norms(self, groups: Groups) -> Tensor:
        """Refused."""
        raise _only_one()

    def norms(self, part: Part | None = None) -> Tensor:
        """Refused."""
        raise _only_one()

    def mean_squares(self, part: Part) -> Tensor:
        """Refused."""
        raise _only_one()

    def cosines(self, vector: Tensor, part: Part | None = None) -> Tensor:
        """Refused."""
        raise _only_one()

    def absolute_cosines(self, vector: Tensor) -> Tensor:
        """Refused."""
        raise _only_one()

    def shifted(self, coefficients: Tensor, vector: Tensor) -> RowReader:
        """Refused."""
        raise _only_one()

    def weighted_sum(self, weights: Tensor, factors: Tensor | None = None) -> Tensor:
        """Refused: weights of a linear aggregator are whole numbers, of which :meth:`mean` is exact."""
        raise _only_one()


def _only_one() -> InputError:
    return InputError("a linear aggregator asks for more than the mean of a round's rows; set linear = False")
