"""Clipped sums of per-sample gradients of a chain: what its layers got and what came back are at hand anyway."""

from __future__ import annotations

import torch
from torch import Tensor

from autoflip_secure.training.chain.images import Convolution
from autoflip_secure.training.chain.layers import Affine
from autoflip_secure.training.chain.program import ChainProgram
from autoflip_secure.training.layer_sums import LayerSums, Products, Whole, factors_of
from autoflip_secure.training.per_sample import ClippedSums


class ChainSums(ClippedSums):
    """By the formulas of :mod:`~autoflip_secure.training.layer_sums`, with the passes of a program by hand."""

    def __init__(self, program: ChainProgram) -> None:
        self._program = program
        self._slots = {place: slot for slot, place in enumerate(program.trained)}

    def __call__(  # noqa: D102 - as in the base class
        self,
        tensors: list[Tensor],
        masks: list[Tensor] | None,
        inputs: Tensor,
        labels: Tensor,
        real: Tensor,
        clip: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        batch = inputs.shape[1]
        parts: list[tuple[Affine, LayerSums]] = []

        def collect(layer: Affine, given: Tensor, outer: Tensor) -> None:
            if layer.weight in self._slots:
                rows = layer.of_samples(given, batch), layer.of_samples(outer, batch)
                parts.append((layer, self._part(layer, *rows, masks)))

        losses = self._program.passes(self._program.bind(tensors), inputs, labels, torch.ones_like(real), collect)
        parts.reverse()  # in the order of the forward pass
        factors = factors_of([part for _, part in parts], real, clip)
        sums: list[Tensor | None] = [None] * len(self._slots)
        for layer, part in parts:
            weight, bias = part.total(factors)
            sums[self._slots[layer.weight]] = layer.gradient(weight.transpose(1, 2))
            if layer.bias is not None:
                sums[self._slots[layer.bias]] = bias
        return [total for total in sums if total is not None], losses

    def _part(self, layer: Affine, given: Tensor, outer: Tensor, masks: list[Tensor] | None) -> LayerSums:
        weight = bias = None
        if masks is not None:
            weight = layer.matrix(masks[self._slots[layer.weight]]).transpose(1, 2)
            bias = None if layer.bias is None else masks[self._slots[layer.bias]]
        if isinstance(layer, Convolution):
            shape = torch.Size((outer.shape[-1], given.shape[-1]))
            return Whole(given, outer, shape, layer.bias is not None, (weight, bias))
        return Products(given, outer, layer.bias is not None, (weight, bias))
