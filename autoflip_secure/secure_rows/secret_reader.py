r"""Reads numbers off rows in shares, in double, and counts them.

Nothing is truncated or divided on shares: integers are revealed, and what follows from them is computed in the open.
With :math:`y_k = x_k + c_k v` (:meth:`SecretReader.shifted`) and public :math:`c_k` and v

.. math::
    \langle y_k, u \rangle_g = \langle x_k, u \rangle_g + c_k \langle v, u \rangle_g, \qquad
    \|y_k\|_g^2 = \|x_k\|_g^2 + c_k (2 \langle x_k, v \rangle_g + c_k \|v\|_g^2)

How many numbers may be read in a round is bounded (:mod:`.account`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces.row_reader import TINY, Groups, Part, RowReader
from autoflip_secure.secure_rows.account import Account
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import SecretRows, Sketch, public_signs
from autoflip_secure.secure_rows.secure_sum import LEAST_CROWD

WEIGHT_BITS = 24  # of the public weights in the one sum
CHUNK = 2**25  # entries of public vectors held at once
DEVIATIONS = 6  # honest products with random signs exceed so many B with a chance of 1e-8
EVEN = 2.0**-10
"""Of the largest weight: code from outside weighs nobody less, but with 0. Far below it a sum would show, digit by
digit, the row of the largest weight above those of small ones."""


class SecretReader(RowReader):
    """What may be read of rows that were clipped to a public norm and lie in shares."""

    stated: ClassVar[bool] = True

    def __init__(
        self, rows: SecretRows, points: FixedPoint, live: Bool[Tensor, " params"], draws: torch.Generator,
        width: int | None, *, ask: Callable[[Tensor], Tensor] | None = None, account: Account | None = None,
        outside: bool = False,
    ) -> None:  # fmt: skip
        """A reader of all rows.

        Args:
            rows: x_k, encoded with ``points``.
            points: see :func:`~autoflip_secure.secure_rows.fixed_point.FixedPoint.for_squares`.
            live: coordinates that are measured.
            draws: source of public signs and sketches, not known to the clients before their shares are sent.
            width: buckets of a sketch for each group; None: exact norms.
            ask: asks every client for the cosine of its absolute values with a public vector.
            account: where to count; None: a new one, without bounds.
            outside: who asks is not of this package.
        """
        self._rows, self._points, self._live, self._draws, self._width = rows, points, live, draws, width
        self._ask, self.account, self._outside = ask, Account() if account is None else account, outside
        self._kept = torch.arange(len(rows.clients))
        self._everywhere = Groups(lambda: live.long() - 1, 1)
        self._squares: dict[Groups, Tensor] = {}
        self._products: list[tuple[Tensor, Groups, Tensor, Tensor]] = []

    def check(self, bound: float) -> Bool[Tensor, " clients"]:
        """Whether products with random signs are those of rows with norm at most ``bound`` (and rounding).

        The reader is one of the rows that pass from now on.
        """
        signs = public_signs(self._rows.params, self._draws) * self._live.cpu().to(torch.int8)
        self.account.checks += len(signs)
        products = self._points.decode(self._rows.products(signs)).cpu()
        most = DEVIATIONS * (bound + float(self._live.sum()) ** 0.5 * self._points.unit / 2)
        small: Tensor = products.abs().amax(1) <= most
        self._kept = small.nonzero().squeeze(1)
        return small

    def __len__(self) -> int:
        return len(self._kept)

    def products(
        self, vectors: Float[Tensor, "vectors params"], part: Part | None = None
    ) -> Float[Tensor, "rows vectors"]:
        """See :class:`RowReader`."""
        if part is None:
            return self._revealed_products(vectors * self._live)
        return torch.stack([self._by_group(v, part.groups)[0][:, part.members].sum(1) for v in vectors], dim=1)

    def squared_norms(self, groups: Groups) -> Float[Tensor, "rows groups"]:
        """See :class:`RowReader`; exact or of a fresh sketch, and read once."""
        if groups not in self._squares:
            self._squares[groups] = self._revealed_squares(groups).clamp_min(0)
        return self._squares[groups]

    def norms(self, part: Part | None = None) -> Float[Tensor, " rows"]:
        """See :class:`RowReader`."""
        part = self._everywhere.whole if part is None else part
        return self.squared_norms(part.groups)[:, part.members].sum(1).sqrt()

    def mean_squares(self, part: Part) -> Float[Tensor, " rows"]:
        """See :class:`RowReader`."""
        places = part.groups.places
        size = torch.bincount(places[(places >= 0) & self._live], minlength=part.groups.count)[part.members].sum()
        return self.squared_norms(part.groups)[:, part.members].sum(1) / max(int(size), 1)

    def cosines(self, vector: Float[Tensor, " params"], part: Part | None = None) -> Float[Tensor, " rows"]:
        """See :class:`RowReader`."""
        part = self._everywhere.whole if part is None else part
        products, squared = self._by_group(vector, part.groups)
        squares = self.squared_norms(part.groups)
        over, own, other = (x[..., part.members].sum(-1) for x in (products, squares, squared))
        return over / (own * other).sqrt().clamp_min(TINY)

    def absolute_cosines(self, vector: Float[Tensor, " params"]) -> Float[Tensor, " rows"]:
        """See :class:`RowReader`; what is no number counts as 0.

        Raises:
            InputError: there is nobody to ask.
        """
        if self._ask is None:
            raise InputError(
                "secure sum: the aggregator needs a number that clients state, and there is none; give claims, or use "
                "products and norms alone (of agreement: the statistic 'profile')"
            )
        self.account.spend(stated=1)
        return self._here(self._ask(vector * self._live)).nan_to_num(nan=0.0).clamp(0, 1)

    def shifted(self, coefficients: Float[Tensor, " rows"], vector: Float[Tensor, " params"]) -> RowReader:
        """See :class:`RowReader`."""
        return _Shifted(self, coefficients, vector)

    def weighted_sum(
        self, weights: Float[Tensor, " rows"], factors: Float[Tensor, " rows"] | None = None
    ) -> Float[Tensor, " params"]:
        """See :class:`RowReader`: weights are rounded to 24 bits, the sum is decoded in double.

        Zeros where fewer than two rows have a weight, for theirs would be the row of one client.

        Raises:
            InputError: it is the second sum, or weights are negative, not finite or of a sum beyond 1.
        """
        weights = weights if factors is None else weights * factors
        if self.account.sums:
            raise InputError("the aggregator asks for a second sum of one round, and a secure sum reveals one")
        if not bool((weights >= 0).all()) or float(weights.sum()) > 1.01:
            raise InputError(
                "the aggregator asks for a sum with weights that are negative, not finite, or of a sum beyond 1; give "
                "shares, as trust has them"
            )
        if self._outside:
            weights = torch.where(weights < EVEN * weights.amax(), 0.0, weights)
        every = torch.zeros(len(self._rows.clients), dtype=torch.float64)
        every[self._kept] = weights.double().cpu()
        whole = (every * 2.0**WEIGHT_BITS).round().long()
        if int((whole > 0).sum()) < LEAST_CROWD:
            return weights.new_zeros(self._rows.params)
        self.account.sums += 1
        return (self._points.decode(self._rows.total(whole)) * 2.0**-WEIGHT_BITS).to(weights)

    def _here(self, numbers: Tensor) -> Tensor:
        """Of the rows that passed, where the model is."""
        return numbers.cpu()[self._kept].to(self._live.device)

    def _by_group(self, vector: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
        """Products with a vector in every group (rows, groups), and its own squared norms (groups,); read once."""
        for known, its, products, squared in self._products:
            if its is groups and torch.equal(known, vector):
                return products, squared
        onto = self._on_groups(vector, groups)
        products, squared = self._revealed_products(onto), onto.square().sum(1)
        self._products.append((vector.clone(), groups, products, squared))
        return products, squared

    def _on_groups(self, vector: Tensor, groups: Groups) -> Float[Tensor, "groups params"]:
        whole = vector.double() * self._live
        return torch.stack([whole * (groups.places == group) for group in range(groups.count)])

    def _revealed_products(self, vectors: Float[Tensor, "vectors params"]) -> Float[Tensor, "rows vectors"]:
        """<x_k, v> for real v, each scaled to norm 1 before it is rounded: Cauchy-Schwarz keeps the ring."""
        self.account.spend(products=len(vectors))
        norms = vectors.double().norm(dim=1).clamp_min(TINY)
        unit = FixedPoint.for_squares(1.0, self._rows.params)
        step = max(1, CHUNK // self._rows.params)
        found = []
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step].double() / norms[start : start + step, None]
            whole = unit.encode(part, range(len(part)))
            found.append(self._points.decode(self._rows.products(whole), times=unit).cpu())
        return self._here(torch.cat(found, dim=1) * norms.cpu())

    def _revealed_squares(self, groups: Groups) -> Float[Tensor, "rows groups"]:
        self.account.spend(norms=groups.count)
        places = torch.where(self._live, groups.places, -1).cpu()
        if self._width is None:
            sketch, starts = Sketch.exact(places, groups.count)
        else:
            sketch, starts = Sketch.random(places, groups.count, self._width, self._draws)
        return self._here(self._points.decode(self._rows.squared_norms(sketch, starts), power=2))


class _Shifted(SecretReader):
    """A reader of x_k + c_k v; what it has to know of the rows it reads by the reader that it is of."""

    def __init__(self, of: SecretReader, coefficients: Tensor, vector: Tensor) -> None:
        super().__init__(of._rows, of._points, of._live, of._draws, of._width, ask=of._ask, account=of.account)
        self._of, self._kept, self._everywhere, self._outside = of, of._kept, of._everywhere, of._outside
        self._coefficients, self._vector = coefficients.double()[:, None], vector

    def products(self, vectors: Tensor, part: Part | None = None) -> Float[Tensor, "rows vectors"]:
        if part is not None:
            return super().products(vectors, part)
        own = (vectors.double() * self._live) @ self._vector.double()
        return self._of.products(vectors) + self._coefficients * own

    def absolute_cosines(self, vector: Tensor) -> Float[Tensor, " rows"]:
        raise InputError("secure sum: clients say the cosine of what they send; ask before the rows are shifted")

    def weighted_sum(self, weights: Tensor, factors: Tensor | None = None) -> Float[Tensor, " params"]:
        return self._of.weighted_sum(weights, factors)

    def _by_group(self, vector: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
        products, squared = self._of._by_group(vector, groups)
        own = squared
        if not torch.equal(vector, self._vector):
            own = (self._on_groups(vector, groups) * self._vector.double()).sum(1)
        return products + self._coefficients * own, squared

    def _revealed_squares(self, groups: Groups) -> Tensor:
        products, squared = self._of._by_group(self._vector, groups)
        return self._of.squared_norms(groups) + self._coefficients * (2 * products + self._coefficients * squared)
