"""What the participants of one round decided about masks of their own, as the round works with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.interfaces import ClientJob


@dataclass(frozen=True)
class Masking:
    """What the cohort of one round decided, in its order."""

    before: Bool[Tensor, "cohort params"]  # what the server knows that each holds: this much of the model it gets
    masks: Bool[Tensor, "cohort params"]  # what each holds from now on and sends
    starts: Float[Tensor, "cohort params"]  # zero where not held
    began: Bool[Tensor, "cohort params"] | None = None  # what training began under; None: ``masks``, none were moved

    @property
    def held(self) -> Bool[Tensor, " params"]:
        """Coordinates that somebody holds."""
        return self.masks.any(0)

    def jobs(self, jobs: Sequence[ClientJob], snapshot: int | None = None) -> list[ClientJob]:
        """Local training of the cohort, each under its own mask and from its own start, noted after an epoch."""
        return [
            replace(job, start=start, mask=None if bool(mask.all()) else mask, snapshot=snapshot)
            for job, start, mask in zip(jobs, self.starts, self.masks, strict=True)
        ]

    def moved(self, masks: Bool[Tensor, "cohort params"]) -> Masking:
        """After local training that ended on ``masks``: what came since has no start."""
        return replace(self, masks=masks, began=self.masks if self.began is None else self.began)

    def updates(self, trained: Tensor, weights: Tensor) -> Float[Tensor, "cohort params"]:
        """u_k = w_k - w on what each holds, from what training added to its start; 0 elsewhere."""
        return torch.where(self.masks, trained + (self.starts - weights), 0.0)
