r"""Client agreement scores and the agreement-weighted aggregate: phase 2 of AutoFLIP as this project reads it.

Each statistic x of a client is compared with the population of all clients seen so far by a one-sided robust z-test:

.. math::
    z_k = \max_x (c_x - x_k) / \sigma_x, \quad c_x = Q_{0.6}(x), \quad
    \sigma_x = \mathrm{clip}(1.4826\,\mathrm{med}|x - c_x|, \mathrm{floor}_x, \mathrm{cap}_x), \quad
    s_k = \mathrm{clip}((3 - z_k)/1.5, 0, 1)

    \Delta = \sum_k \omega_k \min(1, 2r/\|u_k\|) u_k, \quad \omega_k \propto n_k s_k, \quad
    r = \exp Q_{0.4}(\overline{\log \|u\|})

The default statistics are landscape, size and direction (the ``composite`` score); one statistic alone is an ablation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.algorithm.client_memory import exponential_mean, remembered_norms, typical
from autoflip_secure.algorithm.energy_profile import GROUPS, affinity, landscape_groups
from autoflip_secure.algorithm.order_statistics import TINY, clip_factors, mad, median_rows, quantile, shares
from autoflip_secure.interfaces import (
    Aggregate,
    Exploration,
    Groups,
    Guidance,
    OpenRows,
    PublicView,
    ReadingAggregator,
    RowReader,
)
from autoflip_secure.interfaces.known_attacks import OF_MEMORY, Known
from autoflip_secure.interfaces.row_reader import cosine, grouped
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import kept

StatisticName = Literal[
    "landscape",
    "profile",
    "size",
    "direction",
    "cosine_mean",
    "cosine_others",
    "cosine_median",
    "cosine_pairwise",
    "sign",
]


@dataclass(frozen=True)
class AgreementState:
    """What the server remembers between rounds."""

    memory: Float[Tensor, " params"]  # H: exponential mean of accepted global updates
    means: dict[str, Float[Tensor, " all_clients"]]  # per statistic: exponential mean; NaN = not seen yet
    log_norms: Float[Tensor, " all_clients"]


@dataclass(frozen=True)
class ClientScores:
    """What each participant counts for, and the memories with this round in them."""

    scores: Float[Tensor, " clients"]  # s_k
    trust: Float[Tensor, " clients"]  # omega_k
    factors: Float[Tensor, " clients"]  # min(1, 2r / ||u_k||)
    means: dict[str, Float[Tensor, " all_clients"]]
    log_norms: Float[Tensor, " all_clients"]


@dataclass(frozen=True)
class Asked:
    """What a statistic is computed from."""

    reader: RowReader
    view: PublicView
    state: AgreementState

    @cached_property
    def groups(self) -> Groups:
        """Coordinates by their landscape energy (:mod:`.energy_profile`)."""
        guidance = self._guidance
        return Groups(lambda: landscape_groups(guidance.energy, self.view.live), GROUPS)

    @property
    def energy(self) -> Float[Tensor, " params"]:
        """D; every client is scored against the landscape."""
        return self._guidance.energy

    @property
    def _guidance(self) -> Guidance:
        assert self.view.guidance is not None
        return self.view.guidance

    @property
    def rows(self) -> Float[Tensor, "clients params"]:
        """Every row; statistics that need them are not offered where rows are secret."""
        assert isinstance(self.reader, OpenRows)
        return self.reader.rows

    @cached_property
    def norms(self) -> Float[Tensor, " clients"]:
        """||u_k||, by way of the groups where rows are secret, so that no number is revealed for it alone."""
        return self.reader.norms(self.groups.whole)

    def undefined(self) -> Float[Tensor, " clients"]:
        """No value for anybody."""
        return torch.full_like(self.norms, torch.nan)


@dataclass(frozen=True)
class Statistic:
    """A number per client, larger is better. ``fresh``: the worse of this round's value and the mean counts."""

    compute: Callable[[Asked], Tensor]
    floor: float
    cap: float
    fresh: bool = False
    rows: bool = False  # it compares single rows, so secret ones will not do


def landscape(asked: Asked) -> Tensor:
    """L_k = cos(|u_k|, sqrt(D)): does the client move the weights that the collective found worth moving?

    Where clients state it themselves it counts for no more than the profile, which no true |u_k| exceeds.
    """
    found = asked.reader.absolute_cosines(kept(asked.energy.sqrt(), asked.view.mask))
    return torch.minimum(found, profile(asked)) if asked.reader.stated else found


def profile(asked: Asked) -> Tensor:
    """P_k: as the landscape agreement, by groups of coordinates of like energy (:mod:`.energy_profile`)."""
    energies = grouped(asked.energy[None], asked.groups.places, GROUPS)[0]
    return affinity(asked.reader.squared_norms(asked.groups), energies)


def size(asked: Asked) -> Tensor:
    """X_k = -log ||u_k||: an oversized update disagrees, a small one does not."""
    return -asked.norms.clamp_min(TINY).log()


def direction(asked: Asked) -> Tensor:
    """C_k = cos(u_k, H), with the memory of accepted global updates; undefined before the first."""
    memory = asked.state.memory
    length = memory.norm()
    if not length > 0:
        return asked.undefined()
    sizes: Tensor = asked.norms * length
    return asked.reader.products(memory[None])[:, 0] / sizes.clamp_min(TINY)


def cosine_others(asked: Asked) -> Tensor:
    """Cosine with the mean of the other clients' updates; undefined for a client alone."""
    updates = asked.rows
    if len(updates) < 2:
        return asked.undefined()
    others = (1 - torch.eye(len(updates)).to(updates)) / (len(updates) - 1)  # a sum less the own row loses the others
    return cosine(updates, others @ updates)


def cosine_pairwise(asked: Asked) -> Tensor:
    """Mean cosine with each other client's update; undefined for a client alone."""
    updates = asked.rows
    if len(updates) < 2:
        return asked.undefined()
    unit: Tensor = updates / updates.norm(dim=1, keepdim=True).clamp_min(TINY)
    gram = unit @ unit.T
    return (gram.sum(1) - gram.diagonal()) / (len(updates) - 1)


def sign(asked: Asked) -> Tensor:
    """Share of the moving coordinates whose sign is the majority's."""
    signs = asked.rows.sign()
    moving = signs != 0
    share: Tensor = ((signs == signs.sum(0).sign()) & moving).sum(1) / moving.sum(1).clamp_min(1)
    return share


STATISTICS: dict[str, Statistic] = {
    "landscape": Statistic(landscape, 0.06, 0.15, fresh=True),
    "profile": Statistic(profile, 0.015, 0.04, fresh=True),
    "size": Statistic(size, 0.6, 0.7, fresh=True),
    "direction": Statistic(direction, 0.15, 0.3),
    "cosine_mean": Statistic(lambda asked: cosine(asked.rows, asked.rows.mean(0)), 0.15, 0.3, rows=True),
    "cosine_others": Statistic(cosine_others, 0.15, 0.3, rows=True),
    "cosine_median": Statistic(lambda asked: cosine(asked.rows, median_rows(asked.rows)), 0.15, 0.3, rows=True),
    "cosine_pairwise": Statistic(cosine_pairwise, 0.15, 0.3, rows=True),
    "sign": Statistic(sign, 0.06, 0.15, rows=True),
}


class AgreementWeighted(ReadingAggregator):
    """Mean weighted with client agreement scores; clients that the collective does not support are filtered."""

    kind: Literal["agreement"] = "agreement"
    source: ClassVar[str] = "AutoFLIP as this project reads it: s_k = clip((3 - z_k) / 1.5, 0, 1); docs/algorithm.md"
    needs_guidance: ClassVar[bool] = True
    scores_clients: ClassVar[bool] = True
    known_by: ClassVar[Known] = OF_MEMORY
    remembers: ClassVar[Literal["", "steps", "clients"]] = "clients"
    weighs_samples: ClassVar[bool] = True
    statistics: tuple[StatisticName, ...] = Field(
        default=("landscape", "size", "direction"), min_length=1, description="the worst of these z-tests is the score"
    )
    rho: Annotated[float, Field(ge=0, lt=1, description="memory of the per-client means")] = 0.5
    memory: Annotated[float, Field(ge=0, lt=1, description="memory of H, the direction of accepted updates")] = 0.8
    zero_at: Annotated[float, Field(gt=0, le=1e12, description="z-value from which a client is filtered")] = 3.0
    full_at: Annotated[float, Field(ge=0, le=1e12, description="z-value up to which a client counts fully")] = 1.5
    clip: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        default=2.0, description="updates are clipped to this many typical norms r; null = not clipped"
    )

    @model_validator(mode="after")
    def _ordered(self) -> AgreementWeighted:
        if self.full_at >= self.zero_at:
            raise ValueError(f"full_at = {self.full_at} must be below zero_at = {self.zero_at}; lower full_at")
        return self

    def start(self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None) -> AgreementState:
        """No client seen, no direction remembered."""
        unseen = weights.new_full((clients,), torch.nan)
        return AgreementState(torch.zeros_like(weights), dict.fromkeys(self.statistics, unseen), unseen)

    def scores_from_numbers(
        self, state: AgreementState, clients: Tensor, samples: Tensor, fresh: dict[str, Tensor], norms: Tensor
    ) -> ClientScores:
        """Scores and weights from numbers alone: one of each statistic a participant, and its norm."""
        z = torch.full_like(norms, -torch.inf)
        means: dict[str, Tensor] = {}
        for name in self.statistics:
            statistic = STATISTICS[name]
            mean = exponential_mean(state.means[name], clients, fresh[name], self.rho)
            x = torch.fmin(fresh[name], mean[clients]) if statistic.fresh else mean[clients]
            centre = quantile(mean, 0.6)
            spread = mad(mean, centre).clamp(statistic.floor, statistic.cap)
            z = torch.fmax(z, (centre - x) / spread)
            means[name] = mean
        scores = ((self.zero_at - z) / (self.zero_at - self.full_at)).clamp(0, 1)
        log_norms = remembered_norms(state.log_norms, clients, norms, self.rho)
        factors = torch.ones_like(norms)
        if self.clip is not None:
            factors = clip_factors(norms, self.clip * typical(log_norms))
        return ClientScores(scores, shares(samples * scores), factors, means, log_norms)

    def combined(self, scored: ClientScores, reader: RowReader, view: PublicView) -> ClientScores:
        """What accepted clients count for together: as they are scored."""
        return scored

    def remember(self, state: AgreementState, scored: ClientScores, step: Tensor) -> AgreementState:
        """The state after a round whose step, without buffers, was ``step``."""
        memory = self.memory * state.memory + (1 - self.memory) * step
        return AgreementState(memory, scored.means, scored.log_norms)

    def decide(self, state: AgreementState, reader: RowReader, view: PublicView) -> Aggregate:
        """Score every participant against all clients seen so far, then take the weighted, clipped mean."""
        asked = Asked(reader, view, state)
        fresh: dict[str, Tensor] = {name: STATISTICS[name].compute(asked).to(view.weights) for name in self.statistics}
        scored = self.scores_from_numbers(state, view.clients, view.samples, fresh, asked.norms.to(view.weights))
        scored = self.combined(scored, reader, view)
        delta = reader.weighted_sum(scored.trust, scored.factors)
        step = view.layout.of_trained(delta)
        return Aggregate(delta, scored.trust, scored.scores, self.remember(state, scored, step), fresh)

    def obstacle(self) -> str | None:
        """Statistics that compare rows with one another need them."""
        wrong = [name for name in self.statistics if STATISTICS[name].rows]
        if not wrong or self.needs_rows:
            return super().obstacle()
        enough = ", ".join(name for name, statistic in STATISTICS.items() if not statistic.rows)
        return (
            f"the statistic {wrong[0]!r} compares single updates with one another, which a secure sum hides; "
            f"use statistics among {enough}"
        )

    def typical_norm(self, state: AgreementState) -> float | None:
        """r, of the clients seen so far."""
        found = float(typical(state.log_norms))
        return found if found > 0 else None
