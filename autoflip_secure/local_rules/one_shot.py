r"""FedMask's local training: one cut of the structure after the first epoch, and a loss that keeps masks sparse.

.. math::
    h_k = \text{the } \mathrm{round}((1 - \rho)\, n_l) \text{ largest scores of each tensor, after the first epoch},
    \qquad L + \lambda \frac1T \sum_l (d_l - d)^2, \quad d_l = \frac{\sum_j m_j h_j}{\sum_j h_j}

It is about trained scores, so it goes with a pruner that trains masks of the clients' own. The structure is cut once,
while the client still holds everything. The gradient of the loss goes through the mask as the pruner's does.

**Evidence**: our reading of Li et al. 2021 (FedMask, SenSys), known from the abstract and notes: "one-shot pruning" and
"a sparsity loss" are theirs, criterion, moment, density d of what is held, and all numbers are ours.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import LocalRule, LocalView, WorksOn, even_sigmoid, straight_through
from autoflip_secure.models.layout import Segment


def masked_tensor(segment: Segment) -> bool:
    """Whether FedMask masks a tensor: weights, but not those of the output layer."""
    return segment.kind == "weight" and not segment.output


class OneShot(LocalRule):
    """FedMask: each client cuts its structure once, after its first epoch, and a loss keeps its mask sparse."""

    kind: Literal["one_shot"] = "one_shot"
    source: ClassVar[str] = "Li et al. 2021 (FedMask), SenSys, doi 10.1145/3485730.3485929; our reading"
    works_on: ClassVar[WorksOn] = "scores"
    sparsity: Annotated[
        float, Field(ge=0, lt=1, description="share of each tensor's weights that a client cuts from its structure")
    ] = 0.5
    strength: Annotated[float, Field(ge=0, le=1e6, description="lambda, weight of the loss on density")] = 0.1
    target_density: Annotated[
        float, Field(ge=0, le=1, description="d: share of the structure that the loss pulls the mask towards")
    ] = 0.5

    @property
    def hooks(self) -> frozenset[str]:
        """Both, or the cut alone."""
        return frozenset({"mask", "penalty"} if self.strength > 0 else {"mask"})

    def moves_after(self, epoch: int, epochs: int) -> bool:
        """After the first epoch; who has cut already stays as it is."""
        return epoch == 1

    def mask(
        self, view: LocalView, gradients: list[Tensor], epoch: Int[Tensor, " models"], epochs: int
    ) -> list[Tensor]:
        """The largest scores of each masked tensor, where all are still held; of equals the first."""
        assert view.masks is not None
        found = []
        for segment, mask, scores in zip(view.segments, view.masks, view.weights, strict=True):
            held = mask > 0
            if masked_tensor(segment):
                flat, whole = scores.reshape(len(scores), -1), held.reshape(len(held), -1).all(1, keepdim=True)
                kept = _largest(flat, round((1 - self.sparsity) * flat.shape[1]))
                held = torch.where(whole, kept, held.reshape(len(held), -1)).view_as(held)
            found.append(held)
        return found

    def penalty(self, view: LocalView) -> Float[Tensor, " models"]:
        """lambda times the mean over masked tensors of (density - target)^2."""
        parts = []
        for number, (segment, scores) in enumerate(zip(view.segments, view.weights, strict=True)):
            if masked_tensor(segment):
                flat = scores.reshape(len(scores), -1)
                live = straight_through((flat >= 0).to(flat), even_sigmoid(flat))
                held = torch.ones_like(flat) if view.masks is None else view.masks[number].reshape(flat.shape)
                parts.append(((live * held).sum(1) / held.sum(1).clamp_min(1) - self.target_density).square())
        return self.strength * torch.stack(parts).mean(0)


def _largest(scores: Float[Tensor, "models numbers"], count: int) -> Bool[Tensor, "models numbers"]:
    """The ``count`` largest of each model, at least one."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, : max(1, count)]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, True)
