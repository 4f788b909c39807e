r"""Dirty labels on one class: malicious clients' samples of it get another label, and all others keep theirs.

.. math:: y \leftarrow c' \quad\text{where } y = c

What it costs is the accuracy of the global model on class c, which the overall accuracy hardly shows: a tenth of it,
with ten classes (Tolpegin et al. 2020, with a source and a target class).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import DataAttack, Threat


class DirtyLabel(DataAttack):
    """Malicious clients give their samples of one class another label; the others keep theirs."""

    kind: Literal["dirty_label"] = "dirty_label"
    source: ClassVar[str] = "Tolpegin et al. 2020: one source class, one target class"
    equation: ClassVar[str] = "y -> c' where y = c, on a share of these samples"
    threat: ClassVar[Threat] = Threat("own", ("labels",), goal="targeted")
    of: Annotated[int, Field(ge=0, lt=100_000, description="the class that is attacked")] = 0
    to: Annotated[int, Field(ge=0, lt=100_000)] | None = Field(
        default=None, description="the label that its samples get; null = a random other one for each"
    )
    share: Annotated[float, Field(ge=0, le=1, description="share of a malicious client's samples of the class")] = 1.0

    @model_validator(mode="after")
    def _another(self) -> DirtyLabel:
        if self.to == self.of:
            raise ValueError(f"to = {self.to} is the class that is attacked; give another one, or null for random ones")
        return self

    @property
    def named_classes(self) -> tuple[int, ...]:
        """The class, and the label."""
        return (self.of,) if self.to is None else (self.of, self.to)

    def labels(self, labels: Int[Tensor, " n"], num_classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """A copy of ``labels`` with round(share · those of the class) of these changed, chosen at random.

        Raises:
            InputError: the class or the label does not exist in this data set.
        """
        wrong = [c for c in self.named_classes if c >= num_classes]
        if wrong:
            raise InputError(f"attack names class {wrong[0]}, and the data has classes 0 to {num_classes - 1}")
        order = torch.randperm(len(labels), generator=generator).to(labels.device)
        shift = torch.randint(1, max(num_classes, 2), (len(labels),), generator=generator).to(labels.device)
        own = order[labels[order] == self.of]
        chosen, result = own[: round(self.share * len(own))], labels.clone()
        result[chosen] = (self.of + shift[chosen]) % num_classes if self.to is None else self.to
        return result
