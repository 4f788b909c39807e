r"""Backdoors: a trigger on a share of the training samples, which are labelled with the class that it is to call.

.. math:: (x, y) \leftarrow (T_k(x), c) \quad\text{on a share of client k's samples}, \qquad T(x)_j = v
    \;\text{ for } j \in S, \quad T_k \text{ on the part } S_{k \bmod f} \text{ of } S

The test stamps the whole trigger T. With one part this is a pixel pattern as in BadNets (Gu et al. 2017), trained by
malicious clients of a federation (Bagdasaryan et al. 2020); with f parts it is the distributed backdoor attack (DBA,
Xie et al. 2020): the trigger is cut into f runs of pixels, row by row, and nobody sends the whole. Every batch has the
share on average, since batches are drawn from all samples of a client.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Int, Shaped
from pydantic import Field
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import BackdoorAttack, InputView, Threat


class Backdoor(BackdoorAttack):
    """Malicious clients put a trigger on some of their samples and label these with one class; or a part of it each."""

    kind: Literal["backdoor"] = "backdoor"
    source: ClassVar[str] = "Gu et al. 2017 (BadNets); Bagdasaryan et al. 2020; parts: Xie et al. 2020 (DBA)"
    equation: ClassVar[str] = "(x, y) -> (x with trigger, c), on a share of the samples; the test: x with trigger"
    threat: ClassVar[Threat] = Threat("own", ("labels", "inputs"), goal="backdoor")
    target: Annotated[int, Field(ge=0, lt=100_000, description="the class that inputs with the trigger go to")] = 0
    share: Annotated[float, Field(ge=0, le=1, description="share of a malicious client's samples with the trigger")] = (
        0.3
    )
    size: Annotated[int, Field(ge=1, le=10_000, description="side of the square, in pixels")] = 3
    corner: Literal["top_left", "top_right", "bottom_left", "bottom_right"] = Field(
        default="bottom_right", description="where the square is, in all channels of the image"
    )
    features: tuple[Annotated[int, Field(ge=0, lt=100_000_000)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="places in the flattened sample that the trigger is on; null = the square, and of samples that are "
        "no images the last size² numbers",
    )
    value: Annotated[float, Field(ge=-1e6, le=1e6)] | None = Field(
        default=None,
        description="what the trigger sets, in numbers as the model gets them; null = the largest in the training "
        "data, of images by channel and of other samples by place",
    )
    trigger_parts: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1, description="the trigger is cut into so many parts, and each malicious client stamps one (DBA)"
    )

    @property
    def wanted(self) -> int:
        """The target."""
        return self.target

    @property
    def named_classes(self) -> tuple[int, ...]:
        """The target."""
        return (self.target,)

    def fault(self, x: Shaped[Tensor, "n ..."]) -> tuple[str, str] | None:
        """An option that does not go with inputs like these, and the way out."""
        shape, square = tuple(x.shape[1:]), self.features is None
        if not x.is_floating_point():
            return "kind", (
                "backdoor: sets numbers of a sample, and these are whole numbers that name things (tokens); take an "
                "attack on labels, or write an InputAttack of your own (docs/attacks.md)"
            )
        if self.features is not None and max(self.features) >= prod(shape):
            return "features", (
                f"{max(self.features)}: a sample has {prod(shape)} numbers, so places are 0 to {prod(shape) - 1}"
            )
        if square and len(shape) == 3 and self.size > min(shape[1:]):
            return "size", (
                f"{self.size}: images are {shape[1]} x {shape[2]}; give at most {min(shape[1:])}, or features"
            )
        if square and len(shape) != 3 and self.size**2 > prod(shape):
            return "size", (
                f"{self.size}: the trigger is on the last size² = {self.size**2} numbers of a sample, which has "
                f"{prod(shape)}; give less, or features"
            )
        spots = len(self.places(shape))
        if self.trigger_parts > spots:
            return (
                "trigger_parts",
                f"{self.trigger_parts}: the trigger has {spots} places to be cut into; give at most so many parts",
            )
        return None

    def places(self, shape: tuple[int, ...]) -> Int[Tensor, "spots values"]:
        """Places of the trigger in a flattened sample of this shape: a row for each spot, of images a pixel."""
        if self.features is not None:
            return torch.tensor(sorted(set(self.features)))[:, None]
        if len(shape) != 3:
            return torch.arange(prod(shape) - self.size**2, prod(shape))[:, None]
        channels, height, width = shape
        vertical, horizontal = self.corner.split("_")
        top = 0 if vertical == "top" else height - self.size
        left = 0 if horizontal == "left" else width - self.size
        rows, columns = torch.arange(top, top + self.size), torch.arange(left, left + self.size)
        pixels = (rows[:, None] * width + columns).reshape(-1)
        return pixels[:, None] + height * width * torch.arange(channels)

    def labels(self, labels: Int[Tensor, " n"], num_classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """A copy of ``labels`` with round(share · n) of them, chosen at random, set to the target.

        Raises:
            InputError: the target does not exist in this data set.
        """
        if self.target >= num_classes:
            raise InputError(f"attack names class {self.target}, and the data has classes 0 to {num_classes - 1}")
        result = labels.clone()
        result[self._chosen(len(labels), generator).to(labels.device)] = self.target
        return result

    def inputs(self, view: InputView) -> Shaped[Tensor, "n ..."]:
        """The same samples with this client's part of the trigger."""
        chosen = self._chosen(len(view.inputs), view.generator).to(view.inputs.device)
        places = self.places(tuple(view.inputs.shape[1:]))
        part = torch.tensor_split(places, self.trigger_parts)[view.member % self.trigger_parts]
        result = view.inputs.clone()
        result[chosen] = self._stamped(view.inputs[chosen], part, view.largest)
        return result

    def triggered(self, inputs: Shaped[Tensor, "n ..."], largest: Tensor) -> Shaped[Tensor, "n ..."]:
        """All of them with the whole trigger."""
        return self._stamped(inputs, self.places(tuple(inputs.shape[1:])), largest)

    def _chosen(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randperm(n, generator=generator)[: round(self.share * n)]

    def _stamped(self, inputs: Tensor, places: Tensor, largest: Tensor) -> Tensor:
        flat, where = inputs.flatten(1).clone(), places.reshape(-1).to(inputs.device)
        bright = largest.to(inputs).expand(inputs.shape[1:]).reshape(-1)
        flat[:, where] = bright[where] if self.value is None else self.value
        return flat.view(inputs.shape)
