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

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.client_memory import exponential_mean
from autoflip_secure.algorithm.order_statistics import TINY, clip_factors, lower_median, quantile, shares
from autoflip_secure.interfaces import (
    Aggregate,
    Exploration,
    Groups,
    OpenRows,
    Part,
    PublicView,
    ReadingAggregator,
    RowReader,
)
from autoflip_secure.interfaces.known_attacks import OF_LAYERS, Known
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import PerMask, facts


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
    """What one round's rows show, and the memories with it."""

    radial: Tensor  # R_k
    sigma: Tensor
    signal: Tensor
    noise_norm: Tensor  # sigma_k sqrt(P)
    noisy: Bool[Tensor, " clients"]
    typical: Tensor  # r
    state: RadialState  # noise and log_signal refreshed


def low_energy(energy: Tensor, live: Bool[Tensor, " params"], share: float) -> Bool[Tensor, " params"]:
    """The ``share`` of the live hidden weights with the lowest D_0: there an honest client hardly moves."""
    candidates = live.nonzero().squeeze(1)
    chosen = torch.zeros_like(live)
    chosen[candidates[energy[candidates].argsort(stable=True)[: max(1, int(share * len(candidates)))]]] = True
    return chosen


def _lowest(mask: Tensor, energy: Tensor, layout: Layout, share: float) -> Bool[Tensor, " params"]:
    live = facts(mask, layout).live
    hidden = live & layout.prunable.to(mask.device)
    return low_energy(energy, hidden if bool(hidden.any()) else live, share)


_low_set = PerMask(_lowest)


class Layers:
    """The parts that the numbers are read of: each layer that counts, inside and outside the low set.

    Layers followed by a normalisation do not count: there <grad, w> = 0 and the cosine is only weight decay.
    """

    def __init__(self, layout: Layout, live: Bool[Tensor, " params"], low: Bool[Tensor, " params"]) -> None:
        self._slices = [slice(group[0].start, group[-1].stop) for group in layout.layers if not group[0].normalised]
        self._live, self._low = live, low
        self.groups = Groups(self._places, 2 * len(self._slices) + 2)

    def _places(self) -> Int[Tensor, " params"]:
        """Group 2l: layer l outside the low set; 2l + 1: inside it; last: what belongs to no layer that counts."""
        found = torch.full(self._live.shape, self.groups.count - 2, dtype=torch.int64, device=self._live.device)
        for number, where in enumerate(self._slices):
            found[where] = 2 * number
        return torch.where(self._live, found + self._low.long(), -1)

    @property
    def low(self) -> Part:
        """The low set."""
        return Part(self.groups, slice(1, self.groups.count, 2), self._low)

    @property
    def each(self) -> list[Part]:
        """Every layer that counts, weight and bias together; where none does (say, nothing but normalisations is
        trained), the whole update."""
        found = [Part(self.groups, slice(2 * n, 2 * n + 2), where) for n, where in enumerate(self._slices)]
        return found or [self.groups.whole]


def radial_cosine(reader: RowReader, weights: Tensor, layers: Layers) -> Float[Tensor, " clients"]:
    """R_k: mean over layers of the cosine with the current weights."""
    return torch.stack([reader.cosines(weights, part) for part in layers.each]).mean(0)


class RadialAgreement(ReadingAggregator):
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
        numbers = self._read(OpenRows(exploration.deviations), own, layers)
        measured = self._measure(state, exploration.clients, numbers, own, live, layout)
        quiet = exploration.clients[~measured.noisy]
        log_signal = unseen.index_put((quiet,), measured.state.log_signal[quiet])
        radial = unseen.index_put((quiet,), measured.radial[~measured.noisy])
        return replace(measured.state, radial=radial, log_signal=log_signal)

    def low_set(self, state: RadialState, mask: Bool[Tensor, " params"], layout: Layout) -> Bool[Tensor, " params"]:
        """Where noise is read from: the live hidden weights (all live ones, if none is hidden) of the lowest D_0."""
        return _low_set(mask, state.energy, layout, self.low)

    def _read(self, reader: RowReader, weights: Tensor, layers: Layers) -> RadialNumbers:
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
        return RadialNumbers(reader.norms(whole), shat, along, radial_cosine(reader, weights, layers))

    def _measure(
        self, state: RadialState, clients: Tensor, read: RadialNumbers, weights: Tensor, mask: Tensor, layout: Layout
    ) -> _Measured:
        root = facts(mask, layout).live_count ** 0.5
        norms, shat = read.norms, read.shat
        noise = exponential_mean(state.noise, clients, shat, self.rho)
        sigma = (shat.square() - quantile(noise, 0.4).square()).clamp_min(0).sqrt()
        noise_norm = sigma * root
        signal = torch.maximum(
            (norms.square() - noise_norm.square()).clamp_min(0).sqrt(), 0.1 * norms / (1 + noise_norm)
        )
        signal = signal.clamp_min(TINY)
        log_signal = exponential_mean(state.log_signal, clients, signal.log(), self.rho)
        typical = quantile(log_signal, 0.4).exp()
        noisy = noise_norm / typical > self.noisy_at
        floored = torch.maximum(signal, typical / 2)
        along = read.along / (floored * weights.norm().clamp_min(TINY)) + 2 * sigma / floored
        radial = torch.where(noisy, along, read.layers)
        signal = torch.where(noisy, floored, norms)
        return _Measured(
            radial, sigma, signal, noise_norm, noisy, typical, replace(state, noise=noise, log_signal=log_signal)
        )

    def scores_from_numbers(
        self,
        state: RadialState,
        clients: Tensor,
        samples: Tensor,
        numbers: RadialNumbers,
        weights: Tensor,
        mask: Tensor,
        layout: Layout,
    ) -> RadialClientScores:
        """Scores and weights from numbers alone. ``weights`` are those of the round, without buffers."""
        m = self._measure(state, clients, numbers, weights, mask, layout)
        share = samples / samples.sum()
        noise_in_step = share * m.noise_norm / weights.norm().clamp_min(TINY)
        damped = m.noisy & (noise_in_step > self.tolerated_noise)
        known = ~state.radial[clients].isnan()
        fresh = torch.where(damped & known, torch.nan, m.radial)  # NaN: the memory is not refreshed
        radial = exponential_mean(state.radial, clients, fresh, self.memory)
        centre = float(quantile(radial, 0.6))
        largest = max(state.largest_centre, centre)
        scores = torch.ones_like(share)
        if centre > 0 and centre >= 0.3 * largest:
            x = radial[clients] / centre
            too_much = torch.where(m.noisy, 1.0, ((2.8 - x) / 0.6).clamp(0, 1))
            scores = ((x + 0.3) / 0.6).clamp(0, 1) * too_much
        damping = (self.tolerated_noise / noise_in_step.clamp_min(TINY)).pow(4)
        scores = torch.where(damped, scores * damping, scores)
        trust = shares(share * scores)
        bound = torch.where(m.signal > 4 * m.typical, m.typical, 2 * m.typical)
        statistics = {"radial": m.radial, "noise": m.noise_norm / m.typical, "signal": m.signal / m.typical}
        after = replace(m.state, radial=radial, largest_centre=largest)
        return RadialClientScores(scores, trust, clip_factors(m.signal, bound), statistics, after)

    def decide(self, state: RadialState, reader: RowReader, view: PublicView) -> Aggregate:
        """Score, damp what would bring too much noise, clip, and take the weighted mean."""
        weights = view.layout.of_trained(view.weights)
        corrected = reader.shifted(view.shrinkage, weights) if bool(view.shrinkage.any()) else reader
        read = self._read(
            corrected, weights, Layers(view.layout, view.live, self.low_set(state, view.mask, view.layout))
        )
        numbers = RadialNumbers(*(x.to(view.weights) for x in vars(read).values()))
        scored = self.scores_from_numbers(state, view.clients, view.samples, numbers, weights, view.mask, view.layout)
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
