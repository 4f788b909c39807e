r"""Frozen weights for masks that are trained: signed constants, with a scale that suits each tensor.

.. math:: \theta_j = \pm \frac{g}{\sqrt{n}}, \qquad n = \text{inputs of a unit}

with the sign by a fair coin; g = e is what the authors of FedPM use, g = sqrt(2) is Kaiming's standard deviation
(Ramanujan et al. 2020). Biases have the scale of their layer's weight; parameters of normalisation are 1 and 0.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.interfaces import SeedView
from autoflip_secure.models.layout import Layout, Segment


def inputs_of(segment: Segment, layout: Layout) -> int:
    """Inputs of one unit of the layer that a weight or bias belongs to; 1 where no weight is known."""
    weights = [one for one in layout if one.layer == segment.layer and one.kind == "weight"]
    shape = segment.shape if segment.kind == "weight" else weights[0].shape if weights else (1,)
    return max(1, prod(shape[1:]))


def signed_constants(view: SeedView, gain: float, scored: Callable[[Segment], bool]) -> Float[Tensor, " params"]:
    """Signed constants for scored tensors, drawn at (FROZEN_WEIGHTS, 0, tensor); w_0 elsewhere, 1 and 0 in norms."""
    theta = view.initial.detach().clone()
    for number, segment in enumerate(view.layout):
        if segment.frozen or segment.kind == "buffer":
            continue
        own = theta[segment.slice]
        if scored(segment):
            coins = torch.rand(len(own), generator=view.generator(0, number)) < 0.5
            scale = gain / sqrt(inputs_of(segment, view.layout))
            theta[segment.slice] = torch.where(coins, scale, -scale).to(own)
        elif segment.kind == "norm":
            theta[segment.slice] = 1.0 if segment.name.rpartition(".")[2] == "weight" else 0.0
    return theta
