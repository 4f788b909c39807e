r"""PruneFL (Jiang et al. 2022): the mask with the largest approximate risk reduction per second of a round.

Client k adds up the square of its summed mini-batch gradient, dense, and sends it in rounds with a reconfiguration:

.. math:: I_k \leftarrow I_k + q_k \Big( \sum_s g_{ks} \Big)^2, \qquad I = \sum_k I_k, \qquad
          s = s_0\, 2^{-t/h}

q: samples processed. The server then looks for the mask with the largest Gamma / Theta
(:mod:`.reconfiguration`). What leaves becomes 0, and what comes starts at 0; I_k starts again at 0.

**Evidence: read in public code** (github.com/jiangyuang/PruneFL, MIT); ideas, no code, are taken from it. Their
defaults count rounds of 5 local steps of 20 samples: a reconfiguration every 50 rounds, half-life 10,000 rounds. By
local steps, 250 and 50,000, these are 10 and 2,000 rounds of 25 steps, about what a client of the default scenario
takes (5 epochs of 4 or 5 batches): the defaults here. With other schedules give ``every`` = 250 / local steps a round.

- Time: a weight costs :math:`t_l = 8 / \text{bandwidth} + 6\, n\, \text{uses}_l / \text{speed}` seconds a round, with
  n samples and uses_l multiply-adds per weight and sample (``time: macs``), or the same everywhere (``uniform``).
  Theirs are measured on a Raspberry Pi (5.56e-6 s for the traffic of a weight, 1.9e-7 s for a step of 20 samples where
  it is used once); the defaults are near them. What sets the final density is c as a share of the dense round's time:
  0.12 is their FEMNIST, 0.41 their CIFAR-10.
- Phase 0 (``init: client``): one client alone trains on ``init_samples`` of its rows from the initial weights, with
  I = the sum of *squared* mini-batch gradients, as in their code. Once its accuracy on them is 1.5 / classes it
  reconfigures with s_0, then every ``init_every`` passes, until the density has changed by at most 10 % five times in
  a row, or after ``init_passes``. Its weights and its mask are what round 1 begins with. They have 50 and 1000 passes
  over 200 samples; here it is 10 and 200, for on data as small as digits theirs are more than a whole run. Which
  client it is is drawn by seed; theirs is the first. **Where a client has few classes, its mask is poor.**
- ``init: all`` (our reading): all clients send the squared gradient at the initial weights once, and there is one
  reconfiguration with s_0; the weights stay.
- ``importance`` (our readings): ``sum_of_squares``, as their paper has it; ``update``, q (u/lr)^2 where a weight is
  live and q (steps x the gradient at the end)^2 where it is dead, both of the round with the reconfiguration alone, so
  that clients remember nothing. u/lr is the sum of gradients under plain SGD alone: momentum makes it 1/(1 - momentum)
  times as large, and Adam another quantity, so that live weights count for more than dead ones.

Secure sums: I is a sum, and passes through the parties as the update does. Rows travel without q_k: the mean that the
server learns is weighted with numbers of samples, and q_k is a client's samples times the epochs that all share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.interfaces import (
    Channel,
    ChannelRequest,
    ClientView,
    LoneStage,
    LoneView,
    Pruner,
    PruneView,
    Received,
)
from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.reconfiguration import reconfigured

IMPORTANCE = "importance"
UNIT = 2.0**-20
"""What rows are sent in: secure sums carry numbers up to 256, with far more digits behind the point than I needs."""
_SETTLED, _TIMES = 0.1, 5  # phase 0 ends when the density changed by at most this, so often in a row
_ACCURATE = 1.5  # times chance: from then on phase 0 reconfigures
_BYTES, _FLOPS = 8, 6  # per weight and round, down and up; per use of a weight, forward and backward


@dataclass(frozen=True)
class _Phase:
    """Where phase 0 stands."""

    accurate: bool = False
    due: bool = False  # whether the stage that was asked for ends with a reconfiguration
    importance: Tensor | None = None  # since the last one
    density: float | None = None  # after the last one
    settled: int = 0  # how often in a row it has hardly changed


class PruneFL(Pruner):
    """PruneFL: the mask of the largest risk reduction per second, from gradients that clients sum up."""

    kind: Literal["prunefl"] = "prunefl"
    source: ClassVar[str] = "Jiang et al. 2022 (PruneFL), read in their code; intervals compared by local steps"
    mask_sent: ClassVar[Literal["nothing", "weights", "units"]] = "weights"
    every: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=10, description="rounds between reconfigurations; the authors: 250 local steps"
    )
    share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.3, description="s_0: share of each tensor's live weights that may go at first"
    )
    half_life: Annotated[float, Field(gt=0, le=1e9)] = Field(
        default=2000.0, description="h: rounds in which that share halves; the authors: 50,000 local steps"
    )
    importance: Literal["square_of_sum", "sum_of_squares", "update"] = Field(
        default="square_of_sum", description="of what clients compute the importance of weights"
    )
    time: Literal["macs", "uniform"] = Field(
        default="macs", description="seconds of a weight by traffic and multiply-adds, or the same for all"
    )
    time_constant: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.12, description="c: what a round takes whatever the mask, as a share of the dense round's time"
    )
    bandwidth: Annotated[float, Field(gt=0, le=1e15, description="bytes per second of a client, either way")] = 1.4e6
    speed: Annotated[float, Field(gt=0, le=1e18, description="floating-point operations per second of a client")] = 1e9
    samples: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        default=100, description="samples that a client processes in a round, as the time model counts them"
    )
    init: Literal["client", "all", "none"] = Field(
        default="client", description="phase 0: one client alone trains and prunes, all send a gradient, or nobody"
    )
    init_samples: Annotated[int, Field(ge=1, le=1_000_000, description="samples that client trains on at most")] = 200
    init_every: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=10, description="its passes between reconfigurations; the authors: 50"
    )
    init_passes: Annotated[int, Field(ge=1, le=100_000, description="its passes at most; the authors: 1000")] = 200
    max_density: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="share of hidden weights that are live at most, once that many could go; null = any"
    )
    target_density: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="what that falls to in the last round, in a line from round 0; null = it stays"
    )
    bound: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="L2 norm that each client's importances are clipped to; for client-level privacy"
    )

    @model_validator(mode="after")
    def _falling(self) -> PruneFL:
        if self.target_density is not None and self.target_density > (self.max_density or 1.0):
            raise ValueError(
                f"target_density = {self.target_density:g} is more than max_density = {self.max_density:g}, and the "
                "limit falls; give less, or a larger max_density"
            )
        return self

    @property
    def needs_costs(self) -> bool:
        """The time model counts multiply-adds."""
        return self.time == "macs"

    @property
    def prepares(self) -> bool:  # type: ignore[override]
        """All clients send a gradient before training."""
        return self.init == "all"

    @property
    def dense_gradients(self) -> bool:  # type: ignore[override]
        """The gradient at the end is wanted of dead weights too."""
        return self.importance == "update"

    @property
    def begins_alone(self) -> bool:
        """Phase 0 of the authors."""
        return self.init == "client"

    @property
    def lone_samples(self) -> int | None:
        """Of the client of phase 0."""
        return self.init_samples

    @property
    def rows_kept(self) -> Mapping[str, Literal["bits", "numbers"]]:
        """What has come together since the last reconfiguration."""
        return {} if self.importance == "update" or self.every == 1 else {IMPORTANCE: "numbers"}

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        """A number a hidden weight, and one for everything else, in rounds that end with a reconfiguration."""
        size = int(asked.layout.prunable.sum())
        return (self._channel(size),) if size and self._due(asked.round) else ()

    def _channel(self, hidden: int) -> Channel:
        return Channel(IMPORTANCE, hidden + 1, "sum", None if self.bound is None else self.bound * UNIT)

    def accumulates(self, asked: ChannelRequest) -> frozenset[Accumulated]:
        """Gradients or their squares, as long as a reconfiguration is to come."""
        to_come = -(-asked.round // self.every) * self.every <= asked.rounds and bool(asked.layout.prunable.any())
        if self.importance == "update" or not to_come:
            return frozenset()
        return frozenset(("gradients" if self.importance == "square_of_sum" else "squares",))

    def measure(self, channel: Channel, view: ClientView) -> Float[Tensor, "clients size"]:
        """I_k / n_k of every hidden weight, and the sum over all other trained parameters, in :data:`UNIT`."""
        rows, hidden = self._importances(view), view.layout.prunable.to(view.updates.device)
        others = view.layout.trained.to(hidden.device) & ~hidden
        return UNIT * torch.cat([rows[:, hidden], rows[:, others].sum(1, keepdim=True)], dim=1)

    def next_rows(self, view: ClientView) -> Mapping[str, Tensor]:
        """I_k goes on, or starts again after it was sent."""
        if not view.sums:
            return {}
        rows = self._importances(view)
        return {IMPORTANCE: torch.zeros_like(rows) if self._due(view.round) else rows}

    def _importances(self, view: ClientView) -> Float[Tensor, "clients params"]:
        if view.round == 0:
            return view.gradients("start").square()
        if self.importance == "update":
            last = view.gradients("end") * view.steps[:, None]
            return torch.where(view.mask, view.updates / view.schedule.lr, last).square()
        own = view.squared_gradient_sum() if self.importance == "sum_of_squares" else view.gradient_sum().square()
        return own + view.states[IMPORTANCE] if IMPORTANCE in view.states else own

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """Reconfigured when it is due and importances have come; what was missed is not made up for."""
        received = view.channels.get(IMPORTANCE)
        if received is None or not self._due(view.round):
            return view.mask
        importance, rest = _spread(received, view.layout)
        share = self.share * 2 ** (-view.round / self.half_life)
        limit = self._limit(view.round / view.rounds)
        return self._reconfigured(
            view.weights, view.mask, importance, rest, share, view.layout, view.multiply_adds, limit
        )

    def lone_stage(self, view: LoneView) -> LoneStage:
        """Phase 0; see the top of this file."""
        phase, mask = view.memory or _Phase(), view.mask
        importance = _added(phase.importance, view.sums.get("squares"))
        if phase.due and importance is not None:
            rest = float((importance.double() * (view.layout.trained & ~view.layout.prunable).to(mask.device)).sum())
            mask = self._reconfigured(
                view.weights, mask, importance, rest, self.share, view.layout, view.multiply_adds, self._limit(0.0)
            )
            density, importance = _density(mask, view.layout), None
            before = phase.density
            hardly = before is not None and abs(density - before) <= _SETTLED * before
            phase = replace(phase, density=density, settled=phase.settled + 1 if hardly else 0)
        left = self.init_passes - view.passes
        if left <= 0 or phase.settled >= _TIMES:
            return LoneStage(0, mask)
        accurate = phase.accurate or view.accuracy() * view.num_classes >= _ACCURATE
        wanted = self.init_every if phase.accurate else 1 if accurate else max(1, self.init_every // 5)
        passes = min(wanted, left)
        memory = replace(phase, accurate=accurate, due=accurate and passes == wanted, importance=importance)
        return LoneStage(passes, mask, frozenset(("squares",)), memory)

    def _reconfigured(
        self, weights: Tensor, mask: Tensor, importance: Tensor, rest: float, share: float, layout: Layout,
        multiply_adds: Callable[[], Mapping[str, float]], limit: float | None,
    ) -> Bool[Tensor, " params"]:  # fmt: skip
        seconds = self._seconds(layout, multiply_adds)
        dense = sum(seconds[segment.name] * (segment.stop - segment.start) for segment in layout.hidden)
        hidden = int(layout.prunable.sum())
        return reconfigured(
            weights,
            mask,
            importance,
            rest,
            seconds,
            layout,
            share=share,
            constant=self.time_constant / (1 - self.time_constant) * dense,
            most=None if limit is None else int(limit * hidden),
        )

    def _limit(self, done: float) -> float | None:
        """Largest density when the share ``done`` of the rounds is over; None: any."""
        if self.target_density is None:
            return self.max_density
        most = 1.0 if self.max_density is None else self.max_density
        return most + (self.target_density - most) * done

    def _seconds(self, layout: Layout, multiply_adds: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """t_l of each hidden tensor."""
        if self.time == "uniform":
            return {segment.name: 1.0 for segment in layout.hidden}
        uses, traffic = multiply_adds(), _BYTES / self.bandwidth
        work = _FLOPS * self.samples / self.speed
        return {segment.name: traffic + work * uses.get(segment.name, 0.0) for segment in layout.hidden}

    def _due(self, round_: int) -> bool:
        return self.prepares if round_ == 0 else round_ % self.every == 0


def _spread(received: Received, layout: Layout) -> tuple[Float[Tensor, " params"], float]:
    """Importances as a vector of all coordinates, and the sum of those that may not be pruned, in :data:`UNIT`.

    An honest one is never negative; what noise or a lie makes so counts as nothing.
    """
    mean = received.mean.clamp_min(0)
    return layout.spread(mean[:-1], layout.prunable), float(mean[-1])


def _added(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other


def _density(mask: Tensor, layout: Layout) -> float:
    hidden = mask[layout.prunable.to(mask.device)]
    return float(hidden.double().mean()) if len(hidden) else 1.0
