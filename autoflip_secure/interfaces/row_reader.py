r"""What may be read of the rows of a round, whether they lie open or in shares at parties.

Of a row :math:`x_k`, on the coordinates that are trained and alive: products :math:`\langle x_k, v \rangle` with public
vectors, squared norms :math:`\|x_k\|_g^2` of public groups g of coordinates, and what follows from these. Of all rows
together, on all coordinates that are sent: one weighted sum :math:`\sum_k w_k x_k`. A score that is written with these
alone runs in the open (:class:`OpenRows`) and on shares (``SecretReader`` of
:mod:`autoflip_secure.secure_rows.secret_reader`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.models.masks import places

TINY = 1e-12


class Groups:
    """Public groups of coordinates, each of which is in one or in none; they are made when first asked for."""

    def __init__(self, places: Int[Tensor, " params"] | Callable[[], Int[Tensor, " params"]], count: int) -> None:
        """Groups.

        Args:
            places: of each coordinate its group in [0, count), or -1: in none; or what gives that.
            count: number of groups.
        """
        self._given, self.count = places, count

    @cached_property
    def places(self) -> Int[Tensor, " params"]:
        """Group of each coordinate, or -1."""
        return self._given if isinstance(self._given, Tensor) else self._given()

    @property
    def whole(self) -> Part:
        """All groups together; they have to hold every coordinate that is measured."""
        return Part(self, slice(None), slice(None))


@dataclass(frozen=True, eq=False)
class Part:
    """A set of coordinates, said twice: where rows lie open it is looked at itself, and else as a union of groups.

    So whatever is read of several parts of the same groups costs no more numbers than there are groups.
    """

    groups: Groups
    members: slice  # of the groups
    where: slice | Bool[Tensor, " params"]


class RowReader(ABC):
    """What a server may read of rows. Numbers about rows are tensors over the rows, in their order."""

    stated: ClassVar[bool]
    """Whether :meth:`absolute_cosines` is what clients say of themselves; else it is measured."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def products(
        self, vectors: Float[Tensor, "vectors params"], part: Part | None = None
    ) -> Float[Tensor, "rows vectors"]:
        """Products of every row with public vectors, on a part of the coordinates; None: on all."""

    @abstractmethod
    def squared_norms(self, groups: Groups) -> Float[Tensor, "rows groups"]:
        """Squared norm of every row in every group, in double."""

    @abstractmethod
    def norms(self, part: Part | None = None) -> Float[Tensor, " rows"]:
        """Norm of every row on a part of the coordinates."""

    @abstractmethod
    def mean_squares(self, part: Part) -> Float[Tensor, " rows"]:
        """Mean of the squared entries of every row on a part; 0 where the part is empty."""

    @abstractmethod
    def cosines(self, vector: Float[Tensor, " params"], part: Part | None = None) -> Float[Tensor, " rows"]:
        """Cosine of every row with a public vector on a part of the coordinates; 0 where either is zero there."""

    @abstractmethod
    def absolute_cosines(self, vector: Float[Tensor, " params"]) -> Float[Tensor, " rows"]:
        r""":math:`\cos(|x_k|, v)` with a public non-negative vector.

        It is no product and no norm of the row. Where rows are secret (:attr:`stated`) each client says it of itself,
        in [0, 1], and may lie: bound it by something that is measured.
        """

    @abstractmethod
    def shifted(self, coefficients: Float[Tensor, " rows"], vector: Float[Tensor, " params"]) -> RowReader:
        """A reader of :math:`x_k + c_k v` for public numbers and a public vector; its sums are those of the rows."""

    @abstractmethod
    def weighted_sum(
        self, weights: Float[Tensor, " rows"], factors: Float[Tensor, " rows"] | None = None
    ) -> Float[Tensor, " params"]:
        """The sum of the rows with public weights: not negative, and of sum 1 at most; once a round.

        Args:
            weights: w_k.
            factors: rows are scaled with these, in [0, 1], before they are weighted; None: they are not.
        """

    def mean(self, weights: Float[Tensor, " rows"]) -> Float[Tensor, " params"]:
        """The weighted mean of the rows: the one sum, with weights scaled to sum 1."""
        return self.weighted_sum(weights / weights.sum())


class OpenRows(RowReader):
    """Rows that the server sees."""

    stated: ClassVar[bool] = False

    def __init__(
        self, sent: Float[Tensor, "rows params"], measured: Callable[[], Float[Tensor, "rows params"]] | None = None
    ) -> None:
        """Open rows.

        Args:
            sent: what is summed.
            measured: gives what is measured, with 0 where a coordinate is not trained; None: the same.
        """
        self._sent, self._measured = sent, measured

    @cached_property
    def rows(self) -> Float[Tensor, "rows params"]:
        """What is measured, for those that need every row."""
        return self._sent if self._measured is None else self._measured()

    def __len__(self) -> int:
        return len(self._sent)

    def products(
        self, vectors: Float[Tensor, "vectors params"], part: Part | None = None
    ) -> Float[Tensor, "rows vectors"]:
        """See :class:`RowReader`."""
        rows, where = self.on(part), slice(None) if part is None else part.where
        return torch.stack([rows @ vector[where] for vector in vectors], dim=1)

    def squared_norms(self, groups: Groups) -> Float[Tensor, "rows groups"]:
        """See :class:`RowReader`."""
        return grouped(self.rows.square(), groups.places, groups.count)

    def norms(self, part: Part | None = None) -> Float[Tensor, " rows"]:
        """See :class:`RowReader`."""
        if part is None or (isinstance(part.where, slice) and part.where == slice(None)):
            return self._norms
        found: Tensor = self.on(part).norm(dim=1)
        return found

    @cached_property
    def _norms(self) -> Float[Tensor, " rows"]:
        found: Tensor = self.rows.norm(dim=1)
        return found

    def mean_squares(self, part: Part) -> Float[Tensor, " rows"]:
        """See :class:`RowReader`."""
        rows = self.on(part)
        return rows.square().mean(1) if rows.shape[1] else rows.new_zeros(len(rows))

    def cosines(self, vector: Float[Tensor, " params"], part: Part | None = None) -> Float[Tensor, " rows"]:
        """See :class:`RowReader`."""
        return cosine(self.on(part), vector if part is None else vector[part.where])

    def absolute_cosines(self, vector: Float[Tensor, " params"]) -> Float[Tensor, " rows"]:
        """See :class:`RowReader`."""
        product: Tensor = self.rows.abs() @ vector
        found: Tensor = product / (self._norms * vector.norm()).clamp_min(TINY)
        return found

    def shifted(self, coefficients: Float[Tensor, " rows"], vector: Float[Tensor, " params"]) -> OpenRows:
        """See :class:`RowReader`."""
        return OpenRows(self._sent, lambda: self.rows + coefficients[:, None] * vector)

    def weighted_sum(
        self, weights: Float[Tensor, " rows"], factors: Float[Tensor, " rows"] | None = None
    ) -> Float[Tensor, " params"]:
        """See :class:`RowReader`."""
        scaled = factors is not None and bool((factors != 1).any())
        found: Tensor = weights @ (self._sent * factors[:, None] if factors is not None and scaled else self._sent)
        return found

    def on(self, part: Part | None) -> Float[Tensor, "rows some"]:
        """What is measured, on a part of the coordinates; None: on all."""
        if part is None:
            return self.rows
        if isinstance(part.where, slice):
            return self.rows[:, part.where]
        return self.rows.index_select(1, places(part.where))


def cosine(rows: Float[Tensor, "rows params"], reference: Float[Tensor, "*rows params"]) -> Float[Tensor, " rows"]:
    """Cosine of each row with ``reference`` (one vector, or one per row); 0 where either is zero."""
    product: Tensor = rows @ reference if reference.dim() == 1 else (rows * reference).sum(-1)
    norms: Tensor = rows.norm(dim=-1) * reference.norm(dim=-1)
    return product / norms.clamp_min(TINY)


def grouped(
    squares: Float[Tensor, "rows params"], groups: Int[Tensor, " params"], count: int
) -> Float[Tensor, "rows groups"]:
    """Sums over groups in double; coordinates of group -1 are left out."""
    inside = (groups >= 0).nonzero().squeeze(1)
    sums = squares.new_zeros((len(squares), count), dtype=torch.float64)
    return sums.index_add_(1, groups[inside], squares[:, inside].double())
