r"""Rows that nobody holds, and the four things that may be learned about them.

A row :math:`x_k \in (\mathbb{Z}/2^{64})^P` lies in additive shares at the parties. Sums, products with public vectors
and public linear maps are local to each party; squared norms take one Beaver product per entry of what is squared, so
a public count-sketch (Charikar, Chen, Farach-Colton 2002) first makes their number independent of the model:

.. math:: (Sx)_i = \sum_{j: h(j) = i} g(j)\, x_j, \quad E\|Sx\|^2 = \|x\|^2, \quad
          \mathrm{Var}\|Sx\|^2 \le 2\|x\|^4 / \mathrm{width}

Signs and buckets are integers, so S is exact in the ring. All results are signed 64-bit integers modulo 2^64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

CHECKS = 4
BLOCK = 2**15  # entries


@dataclass(frozen=True)
class Sketch:
    """A public linear map (params,) -> (width,): coordinate j goes to ``buckets[j]`` with sign ``signs[j]``."""

    buckets: Int[Tensor, " params"]  # in [0, width)
    signs: Int[Tensor, " params"]  # -1, 1; 0: left out
    width: int

    @classmethod
    def exact(cls, groups: Int[Tensor, " params"], count: int) -> tuple[Sketch, Int[Tensor, " groups"]]:
        """A reordering by group, nothing added together, and the first place of each group.

        Args:
            groups: group of each coordinate in [0, count), or -1: left out.
            count: number of groups.
        """
        order = torch.where(groups < 0, count, groups).argsort(stable=True)
        buckets = torch.empty_like(groups).index_put((order,), torch.arange(len(groups)))
        sizes = torch.bincount(groups[groups >= 0], minlength=count)
        used = int(sizes.sum())
        signs = (groups >= 0).to(torch.int64)
        return cls(buckets * signs, signs, max(1, used)), sizes.cumsum(0) - sizes

    @classmethod
    def random(
        cls, groups: Int[Tensor, " params"], count: int, width: int, generator: torch.Generator
    ) -> tuple[Sketch, Int[Tensor, " groups"]]:
        """A count-sketch of every group into ``width`` buckets of its own, and the first bucket of each group.

        The draw must not be known to a client before its shares are at the parties: who knows it can make a row whose
        sketch vanishes.
        """
        groups = groups.cpu()
        signs = torch.randint(0, 2, groups.shape, generator=generator) * 2 - 1
        inside = torch.randint(0, width, groups.shape, generator=generator)
        signs, buckets = signs * (groups >= 0), groups.clamp_min(0) * width + inside
        return cls(buckets, signs, count * width), torch.arange(count) * width

    def __call__(self, rows: Int[Tensor, "rows params"]) -> Int[Tensor, "rows width"]:
        """The sketch of each row (or of each share of it: the map is linear), modulo 2^64."""
        sums = rows.new_zeros(len(rows), 3 * self.width)
        for row, found in zip(rows, sums, strict=True):
            found.scatter_add_(0, self._places, row)
        return sums[:, : self.width] - sums[:, 2 * self.width :]

    @cached_property
    def _places(self) -> Int[Tensor, " params"]:
        """Where a coordinate is added up: its bucket among those of sign 1, of those left out, or of sign -1."""
        return self.buckets + self.width * (1 - self.signs)


def public_signs(params: int, draws: torch.Generator, count: int = CHECKS) -> Int[Tensor, "count params"]:
    """Random signs -1, 1 (8 bits each): products with them show entries that are too large, or that wrap around.

    A row with such entries stays unseen with a chance of at most 1/2 a vector, far less when they are many. Each
    product is one number about the row that becomes known, so there are few.
    """
    return (torch.randint(0, 2, (count, params), generator=draws, dtype=torch.int8) * 2 - 1).to(torch.int8)


class SecretRows(ABC):
    """Rows of ``clients``, (clients, params), in the ring of 64-bit integers; nobody holds one of them."""

    clients: tuple[int, ...]
    params: int

    @abstractmethod
    def total(self, weights: Int[Tensor, " clients"] | None = None) -> Int[Tensor, " params"]:
        """Reveal :math:`\\sum_k w_k x_k` for public integer weights; None: ones."""

    @abstractmethod
    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """Reveal :math:`\\langle x_k, v \\rangle` for public vectors of any integer type; local at each party."""

    @abstractmethod
    def squared_norms(
        self, sketch: Sketch | None = None, starts: Int[Tensor, " groups"] | None = None
    ) -> Int[Tensor, "clients groups"]:
        """Reveal squared norms per group, by Beaver products.

        Args:
            sketch: public linear map that is applied first; None: the rows themselves.
            starts: first place of each group of consecutive entries of what is squared, ascending, the first 0; a
                group that starts where the next one does is empty (0). None: one group.
        """


class LiveRows(SecretRows):
    """Rows of which only live coordinates were shared; seen from outside the others are 0."""

    def __init__(self, rows: SecretRows, live: Bool[Tensor, " params"]) -> None:
        self.rows, self.clients, self.params = rows, rows.clients, len(live)
        self.live = live.cpu()
        self._all = bool(self.live.all())

    def total(self, weights: Int[Tensor, " clients"] | None = None) -> Int[Tensor, " params"]:
        """See :class:`SecretRows`."""
        found = self.rows.total(weights)
        return found.new_zeros(self.params).index_put((self.live.nonzero().squeeze(1),), found)

    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """See :class:`SecretRows`."""
        return self.rows.products(vectors.cpu() if self._all else vectors.cpu()[:, self.live])

    def squared_norms(
        self, sketch: Sketch | None = None, starts: Int[Tensor, " groups"] | None = None
    ) -> Int[Tensor, "clients groups"]:
        """See :class:`SecretRows`; groups need a sketch, which says where a coordinate goes."""
        assert sketch is not None or starts is None
        if sketch is not None and not self._all:
            sketch = Sketch(sketch.buckets.cpu()[self.live], sketch.signs.cpu()[self.live], sketch.width)
        return self.rows.squared_norms(sketch, starts)


class LocalRows(SecretRows):
    """The same arithmetic in one process, on rows that this process holds: the plain engine, and the oracle."""

    def __init__(self, values: Int[Tensor, "clients params"], clients: tuple[int, ...]) -> None:
        self.values, self.clients, self.params = values, clients, values.shape[1]

    def total(self, weights: Int[Tensor, " clients"] | None = None) -> Int[Tensor, " params"]:
        """See :class:`SecretRows`."""
        return self.values.sum(0) if weights is None else (self.values * weights[:, None]).sum(0)

    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """See :class:`SecretRows`."""
        return ring_products(self.values, vectors)

    def squared_norms(
        self, sketch: Sketch | None = None, starts: Int[Tensor, " groups"] | None = None
    ) -> Int[Tensor, "clients groups"]:
        """See :class:`SecretRows`."""
        rows = self.values if sketch is None else sketch(self.values)
        return group_sums(rows * rows, starts)


def ring_products(
    rows: Int[Tensor, "rows params"], vectors: Int[Tensor, "vectors params"]
) -> Int[Tensor, "rows vectors"]:
    """Products of every row (or share of it) with every vector, modulo 2^64; in blocks that stay in the cache."""
    sums = rows.new_zeros(len(rows), len(vectors))
    step = max(1, BLOCK // max(1, len(rows)))
    for start in range(0, rows.shape[1], step):
        part = rows[:, start : start + step]
        for column, vector in enumerate(vectors):
            sums[:, column] += (part * vector[start : start + step]).sum(1)
    return sums


def group_sums(rows: Int[Tensor, "rows width"], starts: Int[Tensor, " groups"] | None) -> Int[Tensor, "rows groups"]:
    """Sums over groups of consecutive entries, modulo 2^64 (also of shares of the squares)."""
    if starts is None:
        return rows.sum(1, keepdim=True)
    before = torch.cat([rows.new_zeros(len(rows), 1), rows.cumsum(1)], dim=1)
    ends = torch.cat([starts[1:], starts.new_tensor([rows.shape[1]])])
    return before[:, ends] - before[:, starts]
