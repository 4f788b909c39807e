r"""Label flipping: malicious clients train on wrong labels (AutoFLIP paper, Fig. 10: 30 % of them, 20 % of clients).

.. math:: \text{least\_likely:}\quad y \leftarrow \arg\min_{c \ne y} f_w(x)_c

This form is dynamic: f_w is the global model of the round, and so the labels change with it (after Shejwalkar et al.
2022). Which samples are flipped is the same in every round.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import DataAttack


class LabelFlip(DataAttack):
    """Malicious clients train on flipped labels: to a random other class, by pairs, to one, or the least likely."""

    kind: Literal["label_flip"] = "label_flip"
    source: ClassVar[str] = "AutoFLIP paper, Fig. 10; Tolpegin et al. 2020; least likely: after Shejwalkar et al. 2022"
    equation: ClassVar[str] = "y -> another class, on a share of the samples"
    share: Annotated[float, Field(ge=0, le=1, description="share of a malicious client's labels that are flipped")] = (
        0.3
    )
    to: Literal["other", "pairs", "target", "least_likely"] = Field(
        default="other",
        description="which labels flipped ones become: a random other class; by pairs; one target; the other class "
        "that the global model of the round finds least likely",
    )
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

    @property
    def follows_model(self) -> bool:
        """The least likely class is one of the model's."""
        return self.to == "least_likely"

    def labels(self, labels: Int[Tensor, " n"], num_classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """A copy of ``labels`` with round(share · n) of them, chosen at random, flipped.

        Raises:
            InputError: a class in ``target`` or ``pairs`` does not exist in this data set.
            LookupError: they become the least likely class, which is known by :meth:`labels_under` alone.
        """
        if self.follows_model:
            raise LookupError("the least likely class depends on a model; ask labels_under")
        wrong = [c for c in self.named_classes if not 0 <= c < num_classes]
        if wrong:
            raise InputError(f"attack names class {wrong[0]}, and the data has classes 0 to {num_classes - 1}")
        n = len(labels)
        chosen = self._chosen(labels, generator)
        shift = torch.randint(1, max(num_classes, 2), (n,), generator=generator).to(labels.device)
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

    def labels_under(
        self,
        labels: Int[Tensor, " n"],
        num_classes: int,
        generator: torch.Generator,
        outputs: Float[Tensor, "n classes"],
    ) -> Int[Tensor, " n"]:
        """The same samples flipped, to the other class of least output."""
        if not self.follows_model:
            return self.labels(labels, num_classes, generator)
        chosen, result = self._chosen(labels, generator), labels.clone()
        others = outputs.to(labels.device).scatter(1, labels[:, None], torch.inf)
        result[chosen] = others.argmin(1)[chosen]
        return result

    def _chosen(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        order = torch.randperm(len(labels), generator=generator)
        return order[: round(self.share * len(labels))].to(labels.device)
