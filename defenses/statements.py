r"""What a client proves about the secret vector v that it shares, as one equation.

A statement is a list of equations of degree 2 without mixed terms. For random :math:`\rho` drawn after v was shared,

.. math:: f_\rho(v) = \sum_c \rho_c f_c(v) = \langle \alpha, v \circ v \rangle + \langle \ell, v \rangle + \kappa

is zero if all of them hold, and else with a chance of 1/p. An inequality becomes an equation by the bits of its slack,
:math:`t = \sum_i 2^i \beta_i` with :math:`\beta_i^2 = \beta_i` (as in range proofs). The setting is
that of Prio (Corrigan-Gibbs and Boneh 2017): a client proves to parties that hold shares.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from autoflip_secure.seeds import Purpose, generator
from defenses.prime_field import P, element, fold, mixed, scalar, times, total

NORM_BITS = 23
LARGEST = 2**NORM_BITS  # of a row, in units
SCALE = 2**20  # of public unit vectors and cosines
PROJECTIONS = 64  # one for each bit of a word
SPAN = 2**26  # of projections: 8 times LARGEST; an honest one exceeds it with a chance of 1e-27


@dataclass(frozen=True)
class Equation:
    """The coefficients of one equation, elements of the field."""

    squares: Int[Tensor, " length"]
    linear: Int[Tensor, " length"]
    constant: int


class Statement(ABC):
    """About a vector v = (what is summed, the rest of the witness)."""

    shared: int  # how many entries are shared first, before public draws
    length: int

    @abstractmethod
    def equation(self, seed: int) -> Equation:
        """The random combination of all equations for coefficients drawn from ``seed``."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Names the statement: a party checks nothing but what the client meant to prove."""


def _coefficients(seed: int, count: int) -> Int[Tensor, " count"]:
    draws = generator(seed, Purpose.SECURE_CHECKS)
    return torch.randint(0, P, (count,), generator=draws)


def bits_of(values: list[int], widths: list[int]) -> Int[Tensor, " bits"]:
    """The lowest ``widths`` bits of each value, least significant first."""
    return torch.tensor([v >> i & 1 for v, w in zip(values, widths, strict=True) for i in range(w)], dtype=torch.int64)


@dataclass(frozen=True)
class Ballot(Statement):
    """One vote in each of several rows of bins: bits, of which one in each row is 1."""

    rows: tuple[int, ...]  # bins in each

    @property
    def length(self) -> int:  # type: ignore[override]
        """Number of bins."""
        return sum(self.rows)

    @property
    def shared(self) -> int:  # type: ignore[override]
        """All of them: there is no further witness."""
        return self.length

    @property
    def digest(self) -> str:
        """See :class:`Statement`."""
        return f"ballot {self.rows}"

    def equation(self, seed: int) -> Equation:
        """See :class:`Statement`."""
        drawn = _coefficients(seed, self.length + len(self.rows))
        bits, rows = drawn[: self.length], drawn[self.length :]
        each = rows.repeat_interleave(torch.tensor(self.rows))
        return Equation(bits, fold(each - bits), element(-total(rows)))


@dataclass(frozen=True)
class Passes(Statement):
    r"""Row y counts (b = 1) and passes all tests, or is zero (b = 0). In units in which the largest norm is 2^23:

    .. math::
        N = \lfloor \|y\| \rfloor \le 2^{23} b, \quad q_g \le \|y\|_g, \quad
        \sum_g a_g q_g \ge \tau N, \quad \langle y, h \rangle \ge \theta N, \quad
        |\langle s_i, y \rangle| \le 2^{26}

    with groups g and :math:`a_g = \sqrt{D_g}` of the profile, direction h of the memory, and 64 vectors
    :math:`s_i` of -1, 0, 1 (chances 1/4, 1/2, 1/4) drawn after y was shared. An entry beyond 2^27, which could make
    squares wrap around, or a norm above 5 * 2^26, passes one of the last with a chance below 3/4, all with below 1e-8.
    """

    groups: Int[Tensor, " params"]  # of the profile; -1: not scored
    affinity: Int[Tensor, " groups"] | None  # a_g times SCALE; None: no profile
    profile: int  # tau times SCALE
    heading: Int[Tensor, " params"] | None  # h times SCALE; None: no direction
    direction: int  # theta times SCALE
    signs: int  # seed of s_i

    @cached_property
    def widths(self) -> list[int]:
        """Bits of each slack, in order; see :meth:`slacks`."""
        norms = [NORM_BITS + 1, NORM_BITS + 2, NORM_BITS + 2, NORM_BITS + 1]
        groups = [] if self.affinity is None else [NORM_BITS + 1, NORM_BITS + 2] * len(self.affinity) + [46]
        return norms + groups + ([] if self.heading is None else [46]) + [27] * PROJECTIONS

    @property
    def count(self) -> int:
        """Number of groups whose norms are part of the witness."""
        return 0 if self.affinity is None else len(self.affinity)

    @property
    def shared(self) -> int:  # type: ignore[override]
        """The row and b."""
        return len(self.groups) + 1

    @property
    def length(self) -> int:  # type: ignore[override]
        """Row, b, N, q and all bits."""
        return self.shared + 1 + self.count + sum(self.widths)

    @cached_property
    def live(self) -> Bool[Tensor, " params"]:
        """Coordinates that are scored."""
        return self.groups >= 0

    @cached_property
    def digest(self) -> str:
        """See :class:`Statement`."""
        found = hashlib.sha256(f"{self.profile} {self.direction} {self.signs}".encode())
        for part in (self.groups, self.affinity, self.heading):
            found.update(b"-" if part is None else f"{len(part)}:".encode() + part.numpy().tobytes())
        return found.hexdigest()

    @cached_property
    def _words(self) -> Int[Tensor, "2 params"]:
        """Two random words of 64 bits for each coordinate: s_ij is bit i of the first minus bit i of the second."""
        words = torch.empty(2, len(self.groups), dtype=torch.int64)
        return words.random_(-(2**63), None, generator=generator(self.signs, Purpose.SECURE_CHECKS)) * self.live

    def projections(self, row: Int[Tensor, " params"]) -> list[int]:
        """All <s_i, y>."""
        plus, minus = self._words
        return [int((row * ((plus >> i & 1) - (minus >> i & 1))).sum()) for i in range(PROJECTIONS)]

    def slacks(self, row: Int[Tensor, " params"], counts: int) -> tuple[list[int], list[int]]:
        """(N and q, slacks of the inequalities but projections); a slack outside its bits is a lie that is found out.

        Args:
            row: y, signed.
            counts: b.
        """
        squares = row * row * self.live
        energy = int(squares.sum())
        norm = _root(energy)
        found, roots = [norm, energy - norm * norm, 2 * norm - energy + norm * norm, LARGEST * counts - norm], [norm]
        if self.affinity is not None:
            inside = torch.zeros(self.count, dtype=torch.int64).index_add(0, self.groups.clamp_min(0), squares)
            each = [_root(e) for e in inside.tolist()]
            roots += each
            found += [x for q, e in zip(each, inside.tolist(), strict=True) for x in (q, e - q * q)]
            found.append(sum(a * q for a, q in zip(self.affinity.tolist(), each, strict=True)) - self.profile * norm)
        if self.heading is not None:
            found.append(int((row * self.heading).sum()) - self.direction * norm)
        return roots, found

    def holds(self, row: Int[Tensor, " params"]) -> bool:
        """Whether a client can prove that ``row`` counts; its projections fit whatever the signs will be."""
        return all(0 <= s < 2**w for s, w in zip(self.slacks(row, 1)[1], self.widths, strict=False))

    def witness(self, row: Int[Tensor, " params"], counts: int) -> Int[Tensor, " rest"]:
        """What is shared after the row: N, q and the bits."""
        roots, slacks = self.slacks(row, counts)
        slacks += [x + SPAN for x in self.projections(row)]
        return torch.cat([torch.tensor(roots, dtype=torch.int64), bits_of(slacks, self.widths)])

    def equation(self, seed: int) -> Equation:
        """See :class:`Statement`."""
        drawn = _coefficients(seed, len(self.widths) + 1 + sum(self.widths))
        rho, bit = drawn[: len(self.widths)], drawn[len(self.widths) :]  # the first bit is b
        at = iter(rho.tolist())
        norm, below, above, bound = (next(at) for _ in range(4))
        quadratic = torch.full_like(self.groups, below - above)
        counts_squared, counts = bit[:1], fold(scalar(bound * LARGEST)[None] - bit[:1])
        norm_linear = norm + 2 * above - bound
        roots_squared, roots = [above - below], list[int]()
        if self.affinity is not None:
            pairs = [(next(at), next(at)) for _ in range(self.count)]
            tested = next(at)
            quadratic = quadratic + torch.tensor([s for _, s in pairs])[self.groups.clamp_min(0)]
            roots_squared += [-s for _, s in pairs]
            roots = [q + tested * a for (q, _), a in zip(pairs, self.affinity.tolist(), strict=True)]
            norm_linear -= tested * self.profile
        row = torch.zeros_like(self.groups)
        if self.heading is not None:
            tested = next(at)
            row = times(fold(self.heading), scalar(tested))
            norm_linear -= tested * self.direction
        projected = rho[-PROJECTIONS:]
        row = fold(row + mixed(projected, self._words[0]) - mixed(projected, self._words[1]))
        powers = torch.cat([2 ** torch.arange(w) for w in self.widths])
        bits = fold(-times(rho.repeat_interleave(torch.tensor(self.widths)), powers) - bit[1:])
        small = torch.tensor([element(x) for x in (norm_linear, *roots)])
        squared = torch.tensor([element(x) for x in roots_squared])
        return Equation(
            torch.cat([fold(quadratic) * self.live, counts_squared, squared, bit[1:]]),
            torch.cat([row, counts, small, bits]),
            element(total(projected) * SPAN),
        )


def _root(x: int) -> int:
    return math.isqrt(max(x, 0))
