r"""Attacks that try what the server would make of their rows, and send the worst: they know the defence.

.. math::
    \text{opt\_ipm, opt\_alie:}\quad t^* = \arg\max_t \|F(H, a(t)^f) - \mu\|, \qquad
    \text{greedy\_oracle:}\quad \arg\min_{r \in R} \langle F(H, r^f), \mu \rangle

F is the aggregator with the memory that it has in this round; what is tried leaves no trace. Norms and products are
over active coordinates.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.attacks.poisoning.honest_statistics import deviation, median_norm
from autoflip_secure.attacks.poisoning.largest_deviation import MinMax, MinSum
from autoflip_secure.attacks.poisoning.layer_cosines import at_cosine, reversed_mean, with_norm
from autoflip_secure.interfaces import Aggregate, AttackView, RowAttack, Threat
from autoflip_secure.models.masks import kept

_GOLDEN = (math.sqrt(5) - 1) / 2


def attempt(view: AttackView, rows: Float[Tensor, "*malicious params"]) -> tuple[Aggregate, Float[Tensor, " params"]]:
    """The server's decision when malicious clients send ``rows``, and its step on active coordinates; a step that is
    not finite is none."""
    assert view.trial is not None
    found = view.trial(view.sending(rows))
    step = kept(found.delta, view.active)
    return found, step if bool(step.isfinite().all()) else torch.zeros_like(step)


def maximise(value: Callable[[float], float], low: float, high: float, trials: int) -> float:
    """Where ``value`` is largest on [low, high]: half of the trials on a geometric grid, the others a golden-section
    search around its best point. Never worse than the grid."""
    count = max(2, math.ceil(trials / 2))
    grid = [low * math.pow(high / low, number / (count - 1)) for number in range(count)]
    found = {t: value(t) for t in grid}
    best = max(grid, key=found.__getitem__)
    place = grid.index(best)
    a, b = math.log(grid[max(place - 1, 0)]), math.log(grid[min(place + 1, count - 1)])
    for _ in range((trials - count) // 2):
        left, right = math.exp(b - _GOLDEN * (b - a)), math.exp(a + _GOLDEN * (b - a))
        for t in (left, right):
            found[t] = value(t) if t not in found else found[t]
        a, b = (a, math.log(right)) if found[left] >= found[right] else (math.log(left), b)
    return max(found, key=found.__getitem__)


class Optimised(RowAttack, ABC):
    """Common to both: a family of rows, and the one that moves the server's step furthest from the honest mean."""

    threat: ClassVar[Threat] = Threat("defence", ("update",))
    trials: Annotated[int, Field(ge=2, le=1000, description="rows that are tried a round")] = 20
    low: Annotated[float, Field(gt=0, le=1e6, description="least strength tried")] = 0.05
    high: Annotated[float, Field(gt=0, le=1e6, description="largest strength tried")] = 20.0

    @abstractmethod
    def family(self, honest: Float[Tensor, "honest params"]) -> Callable[[float], Float[Tensor, " params"]]:
        """Strength -> the row of this strength."""

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows by the worst one found."""
        honest = view.honest_rows
        mean, row = honest.mean(0), self.family(honest)

        def harm(strength: float) -> float:
            return float((attempt(view, row(strength))[1] - mean).norm())

        strength = maximise(harm, min(self.low, self.high), max(self.low, self.high), self.trials)
        return view.sending(row(strength)), None


class OptimisedInnerProduct(Optimised):
    """IPM at the strength that moves this server's step furthest from the honest mean."""

    kind: Literal["opt_ipm"] = "opt_ipm"
    source: ClassVar[str] = "Xie et al. 2019, strength by search as in ByzFL"
    equation: ClassVar[str] = "u = -t mu, t = argmax ||F(rows) - mu||"

    def family(self, honest: Float[Tensor, "honest params"]) -> Callable[[float], Float[Tensor, " params"]]:
        """-t mu."""
        mean = honest.mean(0)
        return lambda strength: -strength * mean


class OptimisedLittle(Optimised):
    """ALIE at the strength that moves this server's step furthest from the honest mean."""

    kind: Literal["opt_alie"] = "opt_alie"
    source: ClassVar[str] = "Baruch et al. 2019, strength by search as in ByzFL"
    equation: ClassVar[str] = "u = mu - t s, t = argmax ||F(rows) - mu||"

    def family(self, honest: Float[Tensor, "honest params"]) -> Callable[[float], Float[Tensor, " params"]]:
        """mu - t s."""
        mean, s = honest.mean(0), deviation(honest)
        return lambda strength: mean - strength * s


class GreedyOracle(RowAttack):
    """Of a fixed family of rows the one with which this server's step goes least along the honest mean."""

    kind: Literal["greedy_oracle"] = "greedy_oracle"
    source: ClassVar[str] = "this project: the generic adaptive attack"
    equation: ClassVar[str] = "u = argmin over a family of <F(rows), mu>"
    threat: ClassVar[Threat] = Threat("defence", ("update",))
    stealth: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="only rows whose scores stay at least this, where the aggregator scores; null = any"
    )

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Try the family, and send the worst; their own honest rows are in it."""
        mean = view.honest_rows.mean(0)
        rows = [view.updates[view.malicious], *self.family(view)]
        best, least = rows[0], math.inf
        for number, row in enumerate(rows):
            found, step = attempt(view, row)
            hidden = number == 0 or self.stealth is None or found.scores is None
            if not hidden and found.scores is not None:
                hidden = float(found.scores[view.malicious].min()) >= float(self.stealth or 0)
            progress = float(step.double() @ mean.double())
            if hidden and progress < least:
                best, least = row, progress
        return view.sending(best), None

    def family(self, view: AttackView) -> list[Float[Tensor, " params"]]:
        """What is tried: reversed means of five lengths, deviations of three sizes on both sides, min-max and min-sum
        along two directions, reversals that directional scores do not see, the honest row that helps least, zeros."""
        rows = view.honest_rows
        mean, s, typical, count = rows.mean(0), deviation(rows), median_norm(rows), view.count
        family = [with_norm(-mean, length * typical) for length in (0.25, 0.5, 1.0, 2.0, 10.0)]
        family += [mean - z * s for z in (0.5, 1.5, 4.0, -1.5, -4.0)]
        family += [attack(direction=p).row(rows, count) for attack in (MinMax, MinSum) for p in ("deviation", "unit")]
        family += [
            reversed_mean(rows, view.weights, view.layout, share, norm) for share in (0.5, 1.0) for norm in (1.0, 2.0)
        ]
        return [*family, rows[int((rows @ mean).argmin())], torch.zeros_like(mean)]


class MemoryEvasion(RowAttack):
    """The honest mean reversed, but for as much along the server's remembered direction as its scores insist on."""

    kind: Literal["memory_evasion"] = "memory_evasion"
    source: ClassVar[str] = "this project: cosine with the memory H just above the soft cut"
    equation: ClassVar[str] = (
        "u = perp(-mu) + c H / ||H||, the least c at which scores stay at .9; ||u|| = 2 typical norms "
    )
    threat: ClassVar[Threat] = Threat("defence", ("update",))
    score: Annotated[float, Field(ge=0, le=1, description="least score of a malicious client that it settles for")] = (
        0.9
    )
    norm: Annotated[float, Field(gt=0, le=1e6, description="length of the row in typical norms of honest ones")] = 2.0
    trials: Annotated[int, Field(ge=1, le=1000, description="rows that are tried a round")] = 10

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Halve the interval of cosines; where no score is given, or none is enough, the last one tried counts."""
        rows = view.honest_rows
        memory = getattr(view.state, "memory", None)
        target = rows.mean(0) if memory is None or not bool(memory.any()) else memory * view.active
        base, length = -rows.mean(0), self.norm * median_norm(rows)
        if memory is None or not bool(memory.any()):  # nothing but the reversal itself is left to turn
            base = -rows[int((rows @ target).argmin())]
        low, high = -0.95, 0.95
        for _ in range(self.trials):
            middle = (low + high) / 2
            found, _ = attempt(view, with_norm(at_cosine(base, target, middle), length))
            if found.scores is None or float(found.scores[view.malicious].min()) >= self.score:
                high = middle
            else:
                low = middle
        row = at_cosine(base, target, high)
        return view.sending(with_norm(row, length * (row.norm() > TINY))), None
