r"""Phase 1: explorers train once from the initial weights, each on its own copy; their deviations map the landscape.

.. math::
    d_k = w_k - w_0, \quad e_k = d_k^2 / \|d_k\|^2, \quad \pi = \mathrm{med}_k \sqrt{e_k}, \quad
    a_k = \cos(\sqrt{e_k}, \pi) \min(1, \mathrm{med}_l \|d_l\| / \|d_k\|)

    D_0 = \sum_k v_k e_k, \quad v_k \propto a_k
    [a_k \ge \mathrm{med}(a) - 3 \max(1.4826\,\mathrm{MAD}(a), 0.05\,\mathrm{med}(a))]

``method: plain`` is the mean of d_k² (scaled to sum 1, so that it can evolve), which noisy explorers flatten.
``method: linear`` is robust too and needs nothing but sums of rows, so that they can stay secret: see
:mod:`autoflip_secure.algorithm.linear_exploration`, on whose ring it is computed here too, bit for bit as on shares.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.algorithm.linear_exploration import energy_points, energy_rows, linear_landscape
from autoflip_secure.algorithm.order_statistics import (
    TINY,
    clip_factors,
    column_blocks,
    low_bound,
    median_rows,
    quantile,
)
from autoflip_secure.interfaces import Config, Exploration, TrainingSchedule
from autoflip_secure.interfaces.row_reader import cosine
from autoflip_secure.secure_rows.secret_rows import LocalRows


class ExplorationConfig(Config):
    """Who explores, for how long, and how their deviations are combined."""

    source: ClassVar[str] = "AutoFLIP paper, phase 1; docs/algorithm.md"
    epochs: Annotated[int, Field(ge=1, le=10_000, description="at most this many passes over an explorer's data")] = 5
    explorers: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="how many clients explore; null = all"
    )
    patience: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="stop an explorer after this many epochs without a lower training loss; null = never"
    )
    lr: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None,
        description="learning rate of the explorers' plain SGD; null = that of training if it uses SGD, else 0.1",
    )
    every: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="rounds after which the same explorers explore again, from the model as it is: guidance and mask "
        "are drawn anew; null = once, before round 1",
    )
    method: Literal["robust", "plain", "linear"] = Field(
        default="robust", description="how deviations become energy; secure sums need linear"
    )
    reveal: Literal["scores", "sum"] = Field(
        default="scores",
        description="linear: what the server learns about explorers, two scores each or only the sum of all",
    )

    upload_bits: Literal[16, 32] = Field(
        default=32, description="of each number that an explorer sends; 16: half precision, relative to its largest"
    )
    upload_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="of each hidden tensor's deviations, the largest, that an explorer sends; the server takes the "
        "others as zero. 1 = all",
    )

    @model_validator(mode="after")
    def _linear_only(self) -> ExplorationConfig:
        if self.reveal == "sum" and self.method != "linear":
            raise ValueError(f"reveal = 'sum' needs method = 'linear', not {self.method!r}; set both, or neither")
        return self

    @property
    def shortens(self) -> bool:
        """Whether explorers send less than every number in single precision."""
        return self.upload_bits < 32 or self.upload_share < 1

    def schedule(self, training: TrainingSchedule, epochs: int | None = None) -> TrainingSchedule:
        """The explorers' schedule: plain SGD (adaptive optimisers flatten the deviations)."""
        lr = self.lr if self.lr is not None else training.lr if training.optimizer == "sgd" else 0.1
        kept = {key: getattr(training, key) for key in ("batch_size", "augment", "precision")}
        return TrainingSchedule(optimizer="sgd", lr=lr, epochs=epochs or self.epochs, **kept)

    def again(self, round_: int, rounds: int) -> bool:
        """Whether explorers explore again after this round of a run."""
        return self.every is not None and 0 < round_ < rounds and round_ % self.every == 0

    def count(self, clients: int) -> int:
        """How many of the clients explore."""
        return self.explorers or clients


def summed_squares(rows: Float[Tensor, "explorers params"]) -> Float[Tensor, " params"]:
    """Sum of the squares over rows in double, where single precision ends at rows of length 1e19."""
    return torch.cat([rows[:, block].double().square().sum(0) for block in column_blocks(rows)])


def explorer_agreement(
    deviations: Float[Tensor, "explorers params"],
) -> tuple[Float[Tensor, " explorers"], Bool[Tensor, " explorers"]]:
    """a_k and keep_k. Needs |d_k| only, so squared deviations are all that an explorer has to send for it."""
    norms = deviations.norm(dim=1)
    roots = deviations.abs() / norms.clamp_min(TINY)[:, None]
    reference = median_rows(roots)
    agreement = cosine(roots, reference) * clip_factors(norms, quantile(norms, 0.5))
    return agreement, agreement >= low_bound(agreement)


def explore(
    clients: Tensor,
    samples: Tensor,
    deviations: Float[Tensor, "explorers params"],
    method: str,
    losses: list[list[float]],
    reveal: str = "scores",
) -> Exploration:
    """The landscape energy D_0 from the explorers' deviations.

    Args:
        deviations: d_k = w_k - w_0, finite; without any, the landscape is flat.
        method: ``robust``, ``plain`` or ``linear``.
        losses: training loss per explorer and epoch, kept for the record.
        reveal: what ``linear`` may use.
    """
    history = tuple(tuple(row) for row in losses)
    if len(deviations) == 0:
        flat, nobody = torch.full_like(deviations[:1].sum(0), 1 / deviations.shape[1]), samples
        return Exploration(clients, samples, deviations, flat, nobody, nobody.bool(), history)
    if method == "linear":
        points, owners = energy_points(len(deviations)), tuple(clients.tolist())
        rows = LocalRows(points.encode(energy_rows(deviations), owners), owners)
        seen = linear_landscape(rows, points, reveal)
        energy, agreement = (x.to(deviations) for x in (seen.energy, seen.agreement))
        return Exploration(clients, samples, deviations, energy, agreement, seen.kept.to(clients.device), history)
    agreement, kept = explorer_agreement(deviations)
    if method == "plain":
        kept = torch.ones_like(kept)
        energy = summed_squares(deviations)
    else:
        energy = (agreement * kept / deviations.norm(dim=1).square().clamp_min(TINY**2)) @ deviations.square()
    energy = (energy / energy.sum().clamp_min(TINY**2)).to(deviations)
    return Exploration(clients, samples, deviations, energy, agreement, kept, history)
