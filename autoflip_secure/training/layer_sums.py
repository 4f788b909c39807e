r"""One layer's share in clipped sums: squared norms of its per-sample gradients, and their weighted sum.

With inputs :math:`a_i` and outer gradients :math:`g_i` of a fully connected layer sample i's gradient is
:math:`g_i a_i^\top`, of squared norm :math:`\|g_i\|^2 \|a_i\|^2` (Goodfellow 2015); see
:mod:`~autoflip_secure.training.analytic`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.training.base import surely_none
from autoflip_secure.training.per_sample import clip_factors, summed, zeroed

LARGE = 1e20
"""Squared norm of a layer's inputs above which squares of small outer gradients, lost in float32, would count."""


class LayerSums(ABC):
    """One layer's share: squared norms (models, batch), and the clipped sums of weight and bias."""

    squared: Tensor

    @abstractmethod
    def drop(self, squared: Tensor) -> None:
        """Zeros for samples whose squared norm over all layers is not finite."""

    @abstractmethod
    def total(self, factors: Tensor) -> tuple[Tensor, Tensor | None]:
        """Sums of weight and bias over the batch, each sample times its factor (models, batch)."""


def factors_of(parts: Sequence[LayerSums], real: Tensor, clip: Tensor) -> Tensor:
    """The factors (models, batch) for :meth:`.LayerSums.total`; samples whose gradients overflow are dropped.

    Args:
        parts: of all layers, in one order always.
        real: (models, batch), 0 for padding.
        clip: (models,), L2 norm.
    """
    squared = summed(part.squared for part in parts)
    if not surely_none(~squared.isfinite()):
        for part in parts:
            part.drop(squared)
    return clip_factors(squared, real, clip)


class Products(LayerSums):
    """Fully connected, one vector per sample."""

    def __init__(self, a: Tensor, g: Tensor, bias: bool, masks: tuple[Tensor | None, Tensor | None]) -> None:
        self.a, self.g, self.bias, self.masks = a, g, bias, masks
        self.outer = g  # beside the inputs; the bias has g
        weight, offset = masks
        g2, a2 = g.square(), a.square()
        inputs = a2.sum(-1)
        self.squared = g2.sum(-1) * inputs if weight is None else (torch.bmm(g2, weight) * a2).sum(-1)
        odd = ~self.squared.isfinite() | (inputs > LARGE)
        if not surely_none(odd):
            self.squared = torch.where(odd, _products(a, g, weight), self.squared)
            self.a, self.outer = _balanced(a, g, odd)
        if bias:
            self.squared = self.squared + (g2 if offset is None else g2 * offset[:, None]).sum(-1)

    def drop(self, squared: Tensor) -> None:  # noqa: D102 - as in the base class
        self.a, self.g, self.outer = (zeroed(rows, squared) for rows in (self.a, self.g, self.outer))

    def total(self, factors: Tensor) -> tuple[Tensor, Tensor | None]:  # noqa: D102 - as in the base class
        scaled = self.outer * factors[..., None]
        weight = _masked(torch.bmm(scaled.transpose(1, 2), self.a), self.masks[0])
        if not self.bias:
            return weight, None
        scaled = scaled if self.outer is self.g else self.g * factors[..., None]
        return weight, _masked(scaled.sum(1), self.masks[1])


class Whole(LayerSums):
    """The gradients of every sample, made: (models, batch, out, in) from (models, batch, places, out) and (…, in)."""

    def __init__(
        self, a: Tensor, g: Tensor, shape: torch.Size, bias: bool, masks: tuple[Tensor | None, Tensor | None]
    ) -> None:
        weight, offset = masks
        self.shape, self.offset = shape, offset
        self.weights = torch.matmul(g.transpose(-1, -2), a)
        if weight is not None:
            self.weights = self.weights * weight.reshape(len(weight), 1, *self.weights.shape[2:])
        self.squared = self.weights.square().sum((-1, -2))
        self.biases = _masked(g.sum(-2), None if offset is None else offset[:, None]) if bias else None
        if self.biases is not None:
            self.squared = self.squared + self.biases.square().sum(-1)

    def drop(self, squared: Tensor) -> None:  # noqa: D102 - as in the base class
        self.weights = zeroed(self.weights, squared)
        self.biases = None if self.biases is None else zeroed(self.biases, squared)

    def total(self, factors: Tensor) -> tuple[Tensor, Tensor | None]:  # noqa: D102 - as in the base class
        models, batch = factors.shape
        flat = torch.bmm(factors[:, None], self.weights.reshape(models, batch, -1))
        bias = None if self.biases is None else torch.bmm(factors[:, None], self.biases).squeeze(1)
        return flat.reshape(models, *self.shape), bias


def layer_sums(layer: nn.Module, a: Tensor, g: Tensor, masks: tuple[Tensor | None, Tensor | None]) -> LayerSums:
    """The way for a layer's type: inputs and outer gradients (models, batch, …), masks of weight and bias."""
    models, batch = a.shape[:2]
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        if a.dim() == 3:
            return Products(a, g, bias, masks)
        a, g = a.reshape(models, batch, -1, a.shape[-1]), g.reshape(models, batch, -1, g.shape[-1])
        return Whole(a, g, layer.weight.shape, bias, masks)
    assert not isinstance(layer.padding, str)
    images = a.reshape(models * batch, *a.shape[2:])
    patches = F.unfold(images, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    places = patches.reshape(models, batch, *patches.shape[1:]).transpose(-1, -2)
    return Whole(places, g.flatten(3).transpose(-1, -2), layer.weight.shape, bias, masks)


def _products(a: Tensor, g: Tensor, weight: Tensor | None) -> Tensor:
    """Squared norms (models, batch) of products whose factors alone leave the range of squares in float32.

    Not finite where the gradients, made and summed over a batch, might not be.
    """
    wide, outer = a.double(), g.double()
    if weight is None:
        squared = outer.square().sum(-1) * wide.square().sum(-1)
    else:
        squared = (torch.bmm(outer.square(), weight.double()) * wide.square()).sum(-1)
    largest = outer.abs().amax(-1) * wide.abs().amax(-1)
    return torch.where(largest <= torch.finfo(a.dtype).max / a.shape[1], squared, torch.inf).to(a.dtype)


def _balanced(a: Tensor, g: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """Odd samples' inputs divided, and outer gradients multiplied, by a power of 2 that brings the inputs below 2.

    A small outer gradient times a small clip factor would lose its digits. The others stay as they are to the last bit.
    """
    _, exponents = torch.frexp(a.abs().amax(-1))
    powers = torch.where(odd, torch.ldexp(torch.ones_like(a[..., 0]), exponents - 1), 1.0)[..., None]
    return a / powers, g * powers


def _masked(value: Tensor, mask: Tensor | None) -> Tensor:
    return value if mask is None else value * mask
