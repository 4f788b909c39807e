r"""Clipped sums of per-sample gradients of many models at once, in the plain way: every gradient is made.

.. math:: s_m = \sum_i c_{mi} g_{mi}, \qquad c_{mi} = \min(1, C_m / \|g_{mi}\|)

with :math:`g_{mi}` the gradient of model m's loss on its sample i over all trained, unmasked coordinates (Abadi et al.
2016). A gradient with an entry that is not finite, or whose squared norm is not finite in float32, counts as zero, so
that a sample that overflows adds no more than any other. ``vmap`` over models and samples of one gradient:
right for whatever a forward does with its weights (shared, used twice, behind a hook).
:mod:`~autoflip_secure.training.analytic` is quicker where it is right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from autoflip_secure.training.base import surely_none
from autoflip_secure.training.convolutions import Convolving, unfolded
from autoflip_secure.training.program import cross_entropy, single_forward

STABLE = 1e-6  # added to norms before the division, as Opacus does


class ClippedSums(ABC):
    """Sums over a batch of clipped per-sample gradients, for a stack of models."""

    @abstractmethod
    def __call__(
        self,
        tensors: list[Tensor],
        masks: list[Tensor] | None,
        inputs: Tensor,
        labels: Tensor,
        real: Tensor,
        clip: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        """The sums, and the losses.

        Args:
            tensors: all tensors of the layout, each (models, *shape).
            masks: of the trained tensors, as float (models, *shape); None: everything lives.
            inputs: (models, batch, *features).
            labels: (models, batch).
            real: (models, batch), 0 for padding.
            clip: (models,), L2 norm.

        Returns:
            One sum per trained tensor, (models, *shape); losses (models, batch).
        """


def clip_factors(squared_norms: Tensor, real: Tensor, clip: Tensor) -> Tensor:
    """min(1, C / norm) of every sample, 0 for padding and where there is no norm: all (models, batch), clip (models,).

    A factor of 0 does not remove a gradient that is not finite: zero it too (:func:`zeroed`).
    """
    factors = (clip[:, None] / (squared_norms.sqrt() + STABLE)).clamp(max=1) * real
    return torch.where(squared_norms.isfinite(), factors, 0.0)


def summed(terms: Iterable[Tensor]) -> Tensor:
    """Their sum, term by term; a reduction over stacked terms adds up its last entries in another order."""
    return reduce(torch.add, terms)


def zeroed(rows: Tensor, squared_norms: Tensor) -> Tensor:
    """``rows`` (*leading, …) with zeros where the squared norm (*leading,) of a sample is not finite."""
    finite = squared_norms.isfinite()
    return torch.where(finite.reshape(*finite.shape, *[1] * (rows.dim() - finite.dim())), rows, 0.0)


class Plain(ClippedSums):
    """Every sample's gradient, by ``vmap`` over models and samples."""

    def __init__(self, net: nn.Module, names: list[str], trained: list[int]) -> None:
        self._run, self._trained = single_forward(net, names, Convolving(unfolded, (1, 2))), trained
        self._grads = vmap(vmap(grad(self._loss, has_aux=True), in_dims=(None, None, 0, 0)))

    def _loss(self, leaves: list[Tensor], tensors: list[Tensor], one: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        everything = list(tensors)
        for number, leaf in zip(self._trained, leaves, strict=True):
            everything[number] = leaf
        loss = cross_entropy(self._run(everything, one[None]), label[None])[0]
        return loss, loss

    def __call__(  # noqa: D102 - as in the base class
        self,
        tensors: list[Tensor],
        masks: list[Tensor] | None,
        inputs: Tensor,
        labels: Tensor,
        real: Tensor,
        clip: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        gradients, losses = self._grads([tensors[n] for n in self._trained], tensors, inputs, labels)
        if masks is not None:
            gradients = [g * mask[:, None] for g, mask in zip(gradients, masks, strict=True)]
        flat = [
            g.reshape(*g.shape[:2], g.shape[2:].numel()).contiguous() for g in gradients
        ]  # a scalar parameter has one number
        squared = summed(rows.square().sum(-1) for rows in flat)
        factors = clip_factors(squared, real, clip)
        if not surely_none(~squared.isfinite()):
            flat = [zeroed(rows, squared) for rows in flat]
        sums = [torch.bmm(factors[:, None], rows) for rows in flat]
        return [total.reshape(len(g), *g.shape[2:]) for total, g in zip(sums, gradients, strict=True)], losses
