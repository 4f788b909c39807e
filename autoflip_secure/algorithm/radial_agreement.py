r"""Radial agreement (``autoflip_plus``, ours): what a client's update does to the current weights *along themselves*.

For a softmax output layer :math:`-\langle \nabla L, w_{out} \rangle = \sum_i (q_i - p_i) f_i`: positive when the
client's labels agree with what the model believes, negative when they contradict it, whichever classes the client owns.

.. math::
    R_k = \mathrm{mean}_l \cos(u_k^l, w^l), \quad x_k = \bar R_k / Q_{0.6}(\bar R), \quad
    s_k = \mathrm{clip}((x_k + .3)/.6, 0, 1)\, \mathrm{clip}((2.8 - x_k)/.6, 0, 1)

Isotropic noise is estimated from the coordinates that the landscape says nobody moves, and taken out of norms and R.
Known limits: an attacker that adds a multiple of w raises R; isotropic noise is assumed; see ``docs/algorithm.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.client_memory import exponential_mean, typical
from autoflip_secure.algorithm.order_statistics import (
    TINY,
    clip_factors,
    each,
    lower_median,
    quantile,
    shares,
)
from autoflip_secure.algorithm.radial_layers import Layers, low_set, radial_cosine
from autoflip_secure.interfaces import Aggregate, Exploration, OpenRows, PublicView, RowReader, ScoringAggregator
from autoflip_secure.interfaces.known_attacks import OF_LAYERS, Known
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import facts


@dataclass(frozen=True)
class RadialState:
    """Per-client memories (NaN = not seen yet) and the largest centre so far."""

    radial: Float[Tensor, " all_clients"]
    noise: Float[Tensor, " all_clients"]  # mean of shat
    log_signal: Float[Tensor, " all_clients"]
    largest_centre: float
    energy: Float[Tensor, " params"]  # D_0


@dataclass(frozen=True)
class RadialNumbers:
    """All that is needed to know of each participant's update u_k, corrected for weight decay."""

    norms: Float[Tensor, " clients"]  # ||u_k||
    shat: Float[Tensor, " clients"]  # noise per coordinate, before what is usual is taken off
    along: Float[Tensor, " clients"]  # <u_k, w>
    layers: Float[Tensor, " clients"]  # mean over layers of cos(u_k^l, w^l)
    size: Float[Tensor, ""]  # ||w||
    live: int  # P, coordinates that are measured


@dataclass(frozen=True)
class RadialClientScores:
    """What each participant counts for, and the memories with this round in them."""

    scores: Float[Tensor, " clients"]  # s_k
    trust: Float[Tensor, " clients"]  # omega_k
    factors: Float[Tensor, " clients"]  # clipping
    statistics: dict[str, Float[Tensor, " clients"]]
    state: RadialState


@dataclass(frozen=True)
class _Measured:
    """What rows of one cell show, or of several (cells, clients), and the memories with it."""

    radial: Float[Tensor, "*cells clients"]  # R_k
    signal: Float[Tensor, "*cells clients"]
    noise_norm: Float[Tensor, "*cells clients"]  # sigma_k sqrt(P)
    noisy: Bool[Tensor, "*cells clients"]
    typical: Float[Tensor, "*cells one"]  # r
    noise: Float[Tensor, "*cells all_clients"]
    log_signal: Float[Tensor, "*cells all_clients"]


def _of_cells(*tables: Float[Tensor, "cells _"]) -> list[tuple[Tensor, ...]]:
    """Of each cell its row of every table."""
    return list(zip(*(table.unbind(0) for table in tables), strict=True))


class RadialAgreement(ScoringAggregator):
    """Mean weighted with radial agreement: do a client's labels agree with the model, whatever classes it owns?"""

    kind: Literal["radial"] = "radial"
    source: ClassVar[str] = "this project: R_k = mean over layers of cos(u_k, w); docs/algorithm.md"
    needs_guidance: ClassVar[bool] = True
    scores_clients: ClassVar[bool] = True
    known_by: ClassVar[Known] = OF_LAYERS
    remembers: ClassVar[Literal["", "steps", "clients"]] = "clients"
    weighs_samples: ClassVar[bool] = True
    rho: Annotated[float, Field(ge=0, lt=1, description="memory of noise and signal size")] = 0.5
    memory: Annotated[float, Field(ge=0, lt=1, description="memory of the radial agreement")] = 0.6
    low: Annotated[float, Field(gt=0, le=1, description="share of the hidden weights that noise is estimated from")] = (
        0.25
    )
    noisy_at: Annotated[
        float, Field(gt=0, le=1e12, description="noise norm / typical norm from which a client counts as noisy")
    ] = 0.25
    tolerated_noise: Annotated[
        float, Field(gt=0, le=1e12, description="noise in the step / norm of the weights that is tolerated")
    ] = 0.2

    noise: Literal["median", "norm"] = Field(
        default="median", description="noise of a client: 1.4826 median |u| over the low set, or root mean square there"
    )

    def start(self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None) -> RadialState:
        """The exploration seeds the memories: d_k as update, w_0 as weights; a noisy explorer seeds its noise only.

        Where deviations stayed secret, nobody has been seen yet.
        """
        assert exploration is not None
        unseen = weights.new_full((clients,), torch.nan)
        state = RadialState(unseen, unseen, unseen, 0.0, exploration.energy)
        if len(exploration.deviations) == 0:
            return state
        live = torch.ones_like(weights, dtype=torch.bool)
        own = weights * layout.trained.to(weights.device)
        layers = Layers(layout, live & layout.trained.to(live.device), self.low_set(state, live, layout))
        numbers = self._read(OpenRows(exploration.deviations), own, layers, facts(live, layout).live_count)
        measured = self._measure([state], [numbers], exploration.clients[None])
        noisy, radial = measured.noisy[0], measured.radial[0]
        quiet = exploration.clients[~noisy]
        log_signal = unseen.index_put((quiet,), measured.log_signal[0, quiet])
        radial = unseen.index_put((quiet,), radial[~noisy])
        return replace(state, radial=radial, noise=measured.noise[0], log_signal=log_signal)

    def low_set(self, state: RadialState, mask: Bool[Tensor, " params"], layout: Layout) -> Bool[Tensor, " params"]:
        """Where noise is read from: the live hidden weights (all live ones, if none is hidden) of the lowest D_0."""
        return low_set(mask, state.energy, layout, self.low)

    def _read(self, reader: RowReader, weights: Tensor, layers: Layers, live: int) -> RadialNumbers:
        if self.noise == "median":  # of which torch takes the lower one
            assert isinstance(reader, OpenRows)
            quiet = reader.on(layers.low).abs()
            if quiet.shape[1] == 0:  # all that is trained has been pruned away
                quiet = quiet.new_zeros(len(quiet), 1)
            shat = 1.4826 * lower_median(quiet)
        else:
            shat = reader.mean_squares(layers.low).sqrt()
        whole = layers.groups.whole
        along = reader.products(weights[None], whole)[:, 0]
        return RadialNumbers(
            reader.norms(whole), shat, along, radial_cosine(reader, weights, layers), weights.norm(), live
        )

    def read(self, state: RadialState, reader: RowReader, view: PublicView) -> RadialNumbers:
        """What is read of each participant's update, without what weight decay alone took off it."""
        weights = view.layout.of_trained(view.weights)
        corrected = reader.shifted(view.shrinkage, weights) if bool(view.shrinkage.any()) else reader
        layers = Layers(view.layout, view.live, self.low_set(state, view.mask, view.layout))
        found = self._read(corrected, weights, layers, facts(view.mask, view.layout).live_count)
        of_clients = {name: getattr(found, name).to(view.weights) for name in ("norms", "shat", "along", "layers")}
        return replace(found, **of_clients)

    def _measure(
        self, states: Sequence[RadialState], numbers: Sequence[RadialNumbers], clients: Int[Tensor, "cells clients"]
    ) -> _Measured:
        norms, shat, products, layers = (
            torch.stack([getattr(own, name) for own in numbers]) for name in ("norms", "shat", "along", "layers")
        )
        root = norms.new_tensor([own.live**0.5 for own in numbers])[:, None]
        size = torch.stack([own.size for own in numbers]).clamp_min(TINY)[:, None]
        noise = exponential_mean(torch.stack([state.noise for state in states]), clients, shat, self.rho)
        sigma = (shat.square() - quantile(noise, 0.4).square()[:, None]).clamp_min(0).sqrt()
        noise_norm = sigma * root
        signal = torch.maximum(
            (norms.square() - noise_norm.square()).clamp_min(0).sqrt(), 0.1 * norms / (1 + noise_norm)
        )
        signal = signal.clamp_min(TINY)
        log_signal = torch.stack([state.log_signal for state in states])
        log_signal = exponential_mean(log_signal, clients, each(torch.log, signal), self.rho)
        usual = typical(log_signal)[:, None]
        noisy = noise_norm / usual > self.noisy_at
        floored = torch.maximum(signal, usual / 2)
        along = products / (floored * size) + 2 * sigma / floored
        radial = torch.where(noisy, along, layers)
        return _Measured(radial, torch.where(noisy, floored, norms), noise_norm, noisy, usual, noise, log_signal)

    def population(self, state: RadialState) -> int:
        """All clients, seen or not."""
        return len(state.radial)

    def scores_from_numbers(
        self, states: Sequence[RadialState], numbers: Sequence[RadialNumbers], views: Sequence[PublicView]
    ) -> list[RadialClientScores]:
        """Every participant beside all clients of its cell seen so far; tensors are (cells, clients)."""
        clients, samples = (torch.stack(own) for own in ([v.clients for v in views], [v.samples for v in views]))
        m = self._measure(states, numbers, clients)
        share = samples / samples.sum(-1, keepdim=True)
        norm = torch.stack([own.size for own in numbers]).clamp_min(TINY)[:, None]
        noise_in_step = share * m.noise_norm / norm
        damped = m.noisy & (noise_in_step > self.tolerated_noise)
        old = torch.stack([state.radial for state in states])
        known = ~old.gather(-1, clients).isnan()
        fresh = torch.where(damped & known, torch.nan, m.radial)  # NaN: the memory is not refreshed
        radial = exponential_mean(old, clients, fresh, self.memory)
        centre = quantile(radial, 0.6)
        largest = [max(state.largest_centre, own) for state, own in zip(states, centre.tolist(), strict=True)]
        told = [own > 0 and own >= 0.3 * most for own, most in zip(centre.tolist(), largest, strict=True)]
        x = radial.gather(-1, clients) / centre[:, None]
        too_much = torch.where(m.noisy, 1.0, ((2.8 - x) / 0.6).clamp(0, 1))
        scores = ((x + 0.3) / 0.6).clamp(0, 1) * too_much
        scores = torch.where(torch.tensor(told, device=x.device)[:, None], scores, 1.0)
        damping = each(lambda own: own.pow(4), self.tolerated_noise / noise_in_step.clamp_min(TINY))
        scores = torch.where(damped, scores * damping, scores)
        trust = shares(share * scores)
        factors = clip_factors(m.signal, torch.where(m.signal > 4 * m.typical, m.typical, 2 * m.typical))
        statistics = {"radial": m.radial, "noise": m.noise_norm / m.typical, "signal": m.signal / m.typical}
        said = [dict(zip(statistics, own, strict=True)) for own in _of_cells(*statistics.values())]
        tables = _of_cells(scores, trust, factors, radial, m.noise, m.log_signal)
        return [
            RadialClientScores(score, weight, factor, own, RadialState(along, noise, size, most, state.energy))
            for state, own, most, (score, weight, factor, along, noise, size) in zip(
                states, said, largest, tables, strict=True
            )
        ]

    def combine(
        self,
        state: RadialState,
        scored: RadialClientScores,
        numbers: RadialNumbers,
        reader: RowReader,
        view: PublicView,
    ) -> Aggregate:
        """The weighted mean of clipped rows; what would bring too much noise is damped."""
        delta = reader.weighted_sum(scored.trust, scored.factors)
        return Aggregate(delta, scored.trust, scored.scores, scored.state, scored.statistics)

    def obstacle(self) -> str | None:
        """A median over coordinates needs every entry."""
        if self.noise == "norm" or self.needs_rows:
            return super().obstacle()
        return "noise: median needs every entry of an update, which a secure sum hides; use noise: norm"

    def typical_norm(self, state: RadialState) -> float | None:
        """r, of the clients seen so far."""
        found = float(quantile(state.log_signal, 0.4).exp())
        return found if found > 0 else None
