r"""The operations of a chain on a stack of models: what each gives, and how it takes a gradient back.

Activations are (models, batch, features), images (models, batch, height, width, channels). A layer with weights is a
product of matrices :math:`Z = A W + b` in each model, with :math:`A` (rows, inputs) its inputs and a row for each
sample, or for each place of each sample's image; with :math:`G` the gradient of :math:`Z`

.. math:: \nabla W = A^\top G, \quad \nabla b = \sum_r G_r, \quad \nabla A = G W^\top

Each model's products are its own, so its numbers do not depend on the models beside it. For fully connected layers
these are the products, in the order and the layout, that autograd makes behind ``vmap``: equal to the last bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ATEN: Any = torch.ops.aten  # what autograd calls


class Operation(ABC):
    """One operation. What :meth:`forward` keeps, :meth:`backward` is given."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The result, and what the gradient takes."""

    @abstractmethod
    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """The gradient of the input from that of the result."""


class Affine(ABC):
    """A layer with weights, at ``weight`` and ``bias`` among the tensors of the layout."""

    weight: int
    bias: int | None

    @abstractmethod
    def inputs(self, x: Tensor) -> Tensor:
        """A (models, rows, inputs)."""

    @abstractmethod
    def matrix(self, weight: Tensor) -> Tensor:
        """W (models, inputs, outputs) of the layer's own tensor."""

    @abstractmethod
    def gradient(self, matrix: Tensor) -> Tensor:
        """A gradient of W in the shape of the layer's own tensor."""

    @abstractmethod
    def result(self, rows: Tensor, x: Tensor) -> Tensor:
        """The activations that the rows of Z (models, rows, outputs) are, for the input ``x``."""

    @abstractmethod
    def rows(self, grad: Tensor) -> Tensor:
        """G (models, rows, outputs) of a gradient of the activations."""

    @abstractmethod
    def back(self, rows: Tensor, matrix: Tensor, batch: int) -> Tensor:
        """The gradient of what came in, from G and W."""

    @abstractmethod
    def of_samples(self, rows: Tensor, batch: int) -> Tensor:
        """A or G by samples: (models, batch, width) or (models, batch, places, width)."""

    def forward(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The activations, and A. ``bias``: (models, 1, outputs)."""
        inputs = self.inputs(x)
        rows = torch.bmm(inputs, matrix)
        if bias is not None:
            rows.add_(bias)
        return self.result(rows, x), inputs


@dataclass(frozen=True)
class Dense(Affine):
    """``nn.Linear``: a row a sample."""

    weight: int
    bias: int | None

    def inputs(self, x: Tensor) -> Tensor:
        """As they are."""
        return x

    def matrix(self, weight: Tensor) -> Tensor:
        """The transpose."""
        return weight.transpose(1, 2)

    def gradient(self, matrix: Tensor) -> Tensor:
        """The transpose."""
        return matrix.transpose(1, 2)

    def result(self, rows: Tensor, x: Tensor) -> Tensor:
        """As they are."""
        return rows

    def rows(self, grad: Tensor) -> Tensor:
        """As it is."""
        return grad

    def back(self, rows: Tensor, matrix: Tensor, batch: int) -> Tensor:
        """That of A."""
        return torch.bmm(rows, matrix.transpose(1, 2))

    def of_samples(self, rows: Tensor, batch: int) -> Tensor:
        """As they are."""
        return rows


@dataclass(frozen=True)
class Activation(Operation):
    """``relu``, ``tanh`` or ``sigmoid``; ``in_place`` where nobody else needs what comes in."""

    kind: str
    in_place: bool

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The result is all that the gradient takes."""
        out: Tensor = getattr(torch, f"{self.kind}_" if self.in_place else self.kind)(x)
        return out, (out,)

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """As autograd does it."""
        (out,) = kept
        found: Tensor = (
            _ATEN.threshold_backward(grad, out, 0)
            if self.kind == "relu"
            else getattr(_ATEN, f"{self.kind}_backward")(grad, out)
        )
        return found


@dataclass(frozen=True)
class Flatten(Operation):
    """Features of what is no image by channels last: of the inputs themselves."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(models, batch, features)."""
        return x.flatten(2), (x,)

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """In the shape that came in."""
        return grad.reshape(kept[0].shape)
