"""Label flipping: malicious clients train on wrong labels (AutoFLIP paper, Fig. 10: 30 % of them, 20 % of clients)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import DataAttack


class LabelFlip(DataAttack):
    """Malicious clients train on flipped labels: to a random other class, by fixed pairs, or to one target."""

    kind: Literal["label_flip"] = "label_flip"
    source: ClassVar[str] = "AutoFLIP paper, Fig. 10; Tolpegin et al. 2020"
    equation: ClassVar[str] = "y -> another class, on a share of the samples"
    share: Annotated[float, Field(ge=0, le=1, description="share of a malicious client's labels that are flipped")] = (
        0.3
    )
    to: Literal["other", "pairs", "target"] = Field(default="other", description="which labels flipped ones become")
    pairs: dict[int, int] | None = Field(
        default=None, description="with to: pairs: class -> class; null = class c becomes classes - 1 - c"
    )
    target: Annotated[int, Field(ge=0)] | None = Field(default=None, description="with to: target: the class")

    @model_validator(mode="after")
    def _consistent(self) -> LabelFlip:
        if (self.target is not None) != (self.to == "target"):
            raise ValueError("target and to: target belong together; give both or neither")
        if self.pairs is not None and self.to != "pairs":
            raise ValueError(f"pairs is given but to is {self.to!r}; set to: pairs, or leave pairs out")
        return self

    @property
    def named_classes(self) -> tuple[int, ...]:
        """Those of ``target`` and ``pairs``."""
        target = () if self.target is None else (self.target,)
        return (*target, *(one for pair in (self.pairs or {}).items() for one in pair))

    def labels(self, labels: Int[Tensor, " n"], num_classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """A copy of ``labels`` with round(share · n) of them, chosen at random, flipped.

        Raises:
            InputError: a class in ``target`` or ``pairs`` does not exist in this data set.
        """
        wrong = [c for c in self.named_classes if not 0 <= c < num_classes]
        if wrong:
            raise InputError(f"attack names class {wrong[0]}, and the data has classes 0 to {num_classes - 1}")
        n = len(labels)
        order = torch.randperm(n, generator=generator)
        shift = torch.randint(1, max(num_classes, 2), (n,), generator=generator)
        chosen = order[: round(self.share * n)].to(labels.device)
        shift = shift.to(labels.device)
        if self.to == "other":
            flipped = (labels + shift) % num_classes
        elif self.to == "target":
            flipped = torch.full_like(labels, self.target or 0)
        else:
            pairs = self.pairs if self.pairs is not None else {c: num_classes - 1 - c for c in range(num_classes)}
            table = torch.tensor([pairs.get(c, c) for c in range(num_classes)], device=labels.device)
            flipped = table[labels]
        result = labels.clone()
        result[chosen] = flipped[chosen]
        return result
