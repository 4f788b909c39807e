"""What a client is asked to train, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.interfaces.local_rule import RoundRule
from autoflip_secure.interfaces.trained_mask import Scoring
from autoflip_secure.seeds import PrivateDraws


@dataclass(frozen=True)
class PrivateSteps:
    """DP-SGD in one job (Abadi et al. 2016, Algorithm 1): Poisson batches, per-sample clipping, Gaussian noise.

    With n samples, batch size B and E epochs a job takes ``E * ceil(n / B)`` steps. In each, every sample joins the
    batch by itself with probability q = B / n <= 1; the sum of the per-sample gradients, each clipped to L2 norm
    ``clip``, gets noise of standard deviation ``noise_multiplier * clip`` per coordinate and is divided by the expected
    batch size q n = B.
    """

    clip: float  # > 0, L2 norm over all trained, unmasked coordinates; also the sensitivity: there is no second number
    noise_multiplier: float  # >= 0, in units of clip; 0 = clipping alone


@dataclass(frozen=True)
class ClientJob:
    """One client's local training. Mini-batch order is drawn at ``(BATCHES, *address)`` of ``seed``.

    With ``private``, batches are drawn at ``(POISSON, *address)`` and noise at ``(DP_NOISE, *address)`` of ``draws``.
    """

    start: Float[Tensor, " params"]
    samples: Int[Tensor, " n"]  # rows of the training set
    labels: Int[Tensor, " n"]  # as this client sees them: a label-flipping client sees wrong ones
    seed: int
    address: tuple[int, ...]  # (round, client, ...)
    mask: Bool[Tensor, " params"] | None = None  # False: weight is zero and stays zero
    private: PrivateSteps | None = None  # None: plain SGD
    draws: PrivateDraws | None = None  # None: of ``seed`` alone, for jobs that belong to no cell
    rule: RoundRule | None = None  # None: plain steps
    accumulate: frozenset[Accumulated] = frozenset()  # what is summed up over its steps; empty: nothing, at no cost
    snapshot: int | None = None  # the epoch after which its weights are noted; None: of none
    scoring: Scoring | None = None  # None: what is trained are the weights themselves

    @property
    def private_draws(self) -> PrivateDraws:
        """Where private batches and noise come from."""
        return PrivateDraws.of(self.seed) if self.draws is None else self.draws


@dataclass(frozen=True)
class Trained:
    """What local training gave: ``updates`` = end - start (jobs, params); mean training loss (jobs, epochs)."""

    updates: Float[Tensor, "jobs params"]
    losses: Float[Tensor, "jobs epochs"]
    masks: Bool[Tensor, "jobs params"] | None = None  # at the end, where a local rule moves them; None: as they were
    sums: Mapping[Accumulated, Float[Tensor, "jobs params"]] = field(default_factory=dict)  # 0 for who asked for none
    snapshots: Float[Tensor, "jobs params"] | None = (
        None  # weights after an epoch; rows of jobs without one mean nothing
    )
