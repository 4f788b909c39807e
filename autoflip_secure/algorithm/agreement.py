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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.algorithm.agreement_statistics import STATISTICS, AgreementState, Asked, StatisticName
from autoflip_secure.algorithm.client_memory import exponential_mean, remembered_norms, typical
from autoflip_secure.algorithm.order_statistics import clip_factors, mad, quantile, shares
from autoflip_secure.interfaces import Aggregate, Exploration, PublicView, RowReader, ScoringAggregator
from autoflip_secure.interfaces.known_attacks import OF_MEMORY, Known
from autoflip_secure.models.layout import Layout


@dataclass(frozen=True)
class AgreementNumbers:
    """What is read of the rows of one round."""

    statistics: dict[str, Float[Tensor, " clients"]]
    norms: Float[Tensor, " clients"]  # ||u_k||


@dataclass(frozen=True)
class ClientScores:
    """What each participant counts for, and the memories with this round in them."""

    scores: Float[Tensor, " clients"]  # s_k
    trust: Float[Tensor, " clients"]  # omega_k
    factors: Float[Tensor, " clients"]  # min(1, 2r / ||u_k||)
    means: dict[str, Float[Tensor, " all_clients"]]
    log_norms: Float[Tensor, " all_clients"]


class AgreementWeighted(ScoringAggregator):
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

    def read(self, state: AgreementState, reader: RowReader, view: PublicView) -> AgreementNumbers:
        """One number of each statistic a participant, and its norm."""
        asked = Asked(reader, view, state)
        fresh: dict[str, Tensor] = {name: STATISTICS[name].compute(asked).to(view.weights) for name in self.statistics}
        return AgreementNumbers(fresh, asked.norms.to(view.weights))

    def population(self, state: AgreementState) -> int:
        """All clients, seen or not."""
        return len(state.log_norms)

    def scores_from_numbers(
        self, states: Sequence[AgreementState], numbers: Sequence[AgreementNumbers], views: Sequence[PublicView]
    ) -> list[ClientScores]:
        """Every participant against all clients of its cell seen so far; tensors are (cells, clients)."""
        clients, samples = (torch.stack(own) for own in ([v.clients for v in views], [v.samples for v in views]))
        norms = torch.stack([own.norms for own in numbers])
        z, means = self._worst(states, numbers, clients)
        scores = ((self.zero_at - z) / (self.zero_at - self.full_at)).clamp(0, 1)
        log_norms = remembered_norms(torch.stack([state.log_norms for state in states]), clients, norms, self.rho)
        factors = torch.ones_like(norms)
        if self.clip is not None:
            factors = clip_factors(norms, (self.clip * typical(log_norms))[:, None])
        trust = shares(samples * scores)
        rows = zip(*(table.unbind(0) for table in (scores, trust, factors, means, log_norms)), strict=True)
        return [
            ClientScores(own, share, factor, dict(zip(self.statistics, mean.unbind(0), strict=True)), norm)
            for own, share, factor, mean, norm in rows
        ]

    def _worst(
        self,
        states: Sequence[AgreementState],
        numbers: Sequence[AgreementNumbers],
        clients: Int[Tensor, "cells clients"],
    ) -> tuple[Float[Tensor, "cells clients"], Float[Tensor, "cells statistics all_clients"]]:
        """The largest z-value of every participant, and the means that it is about; all statistics at once."""
        names, known = self.statistics, [STATISTICS[name] for name in self.statistics]
        fresh = torch.stack([torch.stack([own.statistics[name] for name in names]) for own in numbers])
        old = torch.stack([torch.stack([state.means[name] for name in names]) for state in states])
        asked = clients[:, None].expand(-1, len(names), -1)
        means = exponential_mean(old, asked, fresh, self.rho)
        x = means.gather(-1, asked)
        both = torch.tensor([one.fresh for one in known], device=x.device)[:, None]
        x = torch.where(both, torch.fmin(fresh, x), x)
        centre = quantile(means, 0.6)
        floors, caps = (x.new_tensor([getattr(one, name) for one in known]) for name in ("floor", "cap"))
        spread = mad(means, centre).clamp(floors, caps)
        z = (centre[..., None] - x) / spread[..., None]
        worst = torch.full_like(z[:, 0], -torch.inf)
        for own in z.unbind(1):
            worst = torch.fmax(worst, own)
        return worst, means

    def combined(self, scored: ClientScores, reader: RowReader, view: PublicView) -> ClientScores:
        """What accepted clients count for together: as they are scored."""
        return scored

    def remember(self, state: AgreementState, scored: ClientScores, step: Tensor) -> AgreementState:
        """The state after a round whose step, without buffers, was ``step``."""
        memory = self.memory * state.memory + (1 - self.memory) * step
        return AgreementState(memory, scored.means, scored.log_norms)

    def combine(
        self,
        state: AgreementState,
        scored: ClientScores,
        numbers: AgreementNumbers,
        reader: RowReader,
        view: PublicView,
    ) -> Aggregate:
        """The weighted, clipped mean."""
        scored = self.combined(scored, reader, view)
        delta = reader.weighted_sum(scored.trust, scored.factors)
        after = self.remember(state, scored, view.layout.of_trained(delta))
        return Aggregate(delta, scored.trust, scored.scores, after, numbers.statistics)

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
