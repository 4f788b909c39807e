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
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.algorithm.energy_profile import GROUPS, affinity, grouped, landscape_groups
from autoflip_secure.algorithm.order_statistics import TINY, clip_factors, cosine, mad, median_rows, quantile, shares
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, RoundView
from autoflip_secure.models.layout import Layout

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
class Statistic:
    """A number per client, larger is better. ``fresh``: the worse of this round's value and the mean counts."""

    compute: Callable[[Tensor, RoundView, AgreementState], Tensor]
    floor: float
    cap: float
    fresh: bool = False


def landscape(updates: Tensor, view: RoundView, state: AgreementState) -> Tensor:
    """L_k = cos(|u_k|, sqrt(D)): does the client move the weights that the collective found worth moving?"""
    assert view.guidance is not None
    return cosine(updates.abs(), view.guidance.energy.sqrt() * view.mask)


def profile(updates: Tensor, view: RoundView, state: AgreementState) -> Tensor:
    """P_k: as the landscape agreement, by groups of coordinates of like energy (:mod:`.energy_profile`)."""
    assert view.guidance is not None
    live = view.mask & view.layout.trained.to(view.mask.device)
    groups = landscape_groups(view.guidance.energy, live)
    energies = grouped(view.guidance.energy[None], groups, GROUPS)[0]
    return affinity(grouped(updates.square(), groups, GROUPS), energies).to(updates)


def size(updates: Tensor, view: RoundView, state: AgreementState) -> Tensor:
    """X_k = -log ||u_k||: an oversized update disagrees, a small one does not."""
    norms: Tensor = updates.norm(dim=1)
    return -norms.clamp_min(TINY).log()


def direction(updates: Tensor, view: RoundView, state: AgreementState) -> Tensor:
    """C_k = cos(u_k, H), with the memory of accepted global updates; undefined before the first."""
    if not bool(state.memory.any()):
        return updates.new_full((len(updates),), torch.nan)
    return cosine(updates, state.memory)


def cosine_others(updates: Tensor, view: RoundView, state: AgreementState) -> Tensor:
    """Cosine with the mean of the other clients' updates; undefined for a client alone."""
    if len(updates) < 2:
        return updates.new_full((len(updates),), torch.nan)
    others = (1 - torch.eye(len(updates)).to(updates)) / (len(updates) - 1)  # a sum less the own row loses the others
    return cosine(updates, others @ updates)


def cosine_pairwise(updates: Tensor, view: RoundView, state: AgreementState) -> Tensor:
    """Mean cosine with each other client's update; undefined for a client alone."""
    if len(updates) < 2:
        return updates.new_full((len(updates),), torch.nan)
    unit: Tensor = updates / updates.norm(dim=1, keepdim=True).clamp_min(TINY)
    gram = unit @ unit.T
    return (gram.sum(1) - gram.diagonal()) / (len(updates) - 1)


def sign(updates: Tensor, view: RoundView, state: AgreementState) -> Tensor:
    """Share of the moving coordinates whose sign is the majority's."""
    signs = updates.sign()
    moving = signs != 0
    return ((signs == signs.sum(0).sign()) & moving).sum(1) / moving.sum(1).clamp_min(1)


STATISTICS: dict[str, Statistic] = {
    "landscape": Statistic(landscape, 0.06, 0.15, fresh=True),
    "profile": Statistic(profile, 0.015, 0.04, fresh=True),
    "size": Statistic(size, 0.6, 0.7, fresh=True),
    "direction": Statistic(direction, 0.15, 0.3),
    "cosine_mean": Statistic(lambda u, v, s: cosine(u, u.mean(0)), 0.15, 0.3),
    "cosine_others": Statistic(cosine_others, 0.15, 0.3),
    "cosine_median": Statistic(lambda u, v, s: cosine(u, median_rows(u)), 0.15, 0.3),
    "cosine_pairwise": Statistic(cosine_pairwise, 0.15, 0.3),
    "sign": Statistic(sign, 0.06, 0.15),
}


def exponential_mean(old: Tensor, clients: Tensor, fresh: Tensor, rho: float) -> Tensor:
    """``old`` with the entries of ``clients`` moved to rho·old + (1-rho)·fresh; the first value is taken whole."""
    known = old[clients]
    mixed = torch.where(known.isnan(), fresh, rho * known + (1 - rho) * fresh)
    return old.index_put((clients,), torch.where(fresh.isnan(), known, mixed))


class AgreementWeighted(Aggregator):
    """Mean weighted with client agreement scores; clients that the collective does not support are filtered."""

    kind: Literal["agreement"] = "agreement"
    source: ClassVar[str] = "AutoFLIP as this project reads it: s_k = clip((3 - z_k) / 1.5, 0, 1); docs/algorithm.md"
    needs_guidance: ClassVar[bool] = True
    scores_clients: ClassVar[bool] = True
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
        log_norms = exponential_mean(state.log_norms, clients, norms.clamp_min(TINY).log(), self.rho)
        factors = torch.ones_like(norms)
        if self.clip is not None:
            factors = clip_factors(norms, self.clip * quantile(log_norms, 0.4).exp())
        return ClientScores(scores, shares(samples * scores), factors, means, log_norms)

    def remember(self, state: AgreementState, scored: ClientScores, step: Tensor) -> AgreementState:
        """The state after a round whose step, without buffers, was ``step``."""
        memory = self.memory * state.memory + (1 - self.memory) * step
        return AgreementState(memory, scored.means, scored.log_norms)

    def aggregate(self, state: AgreementState, view: RoundView) -> Aggregate:
        """Score every participant against all clients seen so far, then take the weighted, clipped mean."""
        updates = view.directions
        fresh: dict[str, Tensor] = {name: STATISTICS[name].compute(updates, view, state) for name in self.statistics}
        scored = self.scores_from_numbers(state, view.clients, view.samples, fresh, updates.norm(dim=1))
        delta = scored.trust @ (view.updates * scored.factors[:, None])
        step = delta * view.layout.trained.to(delta.device)
        return Aggregate(delta, scored.trust, scored.scores, self.remember(state, scored, step), fresh)
