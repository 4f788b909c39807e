"""Rows whose cosine with given vectors is chosen, layer by layer: what attacks on directional scores are made of."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.attacks.poisoning.honest_statistics import median_norm
from autoflip_secure.models.layout import Layout


def layer_slices(layout: Layout) -> list[slice]:
    """Coordinates of each layer, weight and bias together."""
    return [slice(group[0].start, group[-1].stop) for group in layout.layers]


def typical_cosines(
    rows: Float[Tensor, "honest params"], weights: Float[Tensor, " params"], layout: Layout
) -> list[float]:
    """The median over the rows of their cosine with the weights, for each layer."""
    found = []
    for where in layer_slices(layout):
        own, w = rows[:, where], weights[where]
        found.append(float((own @ w / (own.norm(dim=1) * w.norm()).clamp_min(TINY)).median()))
    return found


def at_cosine(base: Float[Tensor, " part"], vector: Float[Tensor, " part"], cosine: float) -> Float[Tensor, " part"]:
    r"""What of ``base`` is orthogonal to ``vector``, and as much along it that the cosine is ``cosine``.

    .. math:: \mathrm{perp}(b) + a\, v / \|v\|, \qquad a = c\, \|\mathrm{perp}(b)\| / \sqrt{1 - c^2}
    """
    unit = vector / vector.norm().clamp_min(TINY)
    across = base - (base @ unit) * unit
    c = min(max(cosine, -0.999), 0.999)
    along: Tensor = c * across.norm() / math.sqrt(1 - c * c)
    row: Tensor = across + along * unit
    return row


def layers_at_cosines(
    base: Float[Tensor, " params"], weights: Float[Tensor, " params"], layout: Layout, cosines: list[float]
) -> Float[Tensor, " params"]:
    """``base`` with the cosine of each layer with the weights as given; what belongs to no layer stays."""
    row = base.clone()
    for where, cosine in zip(layer_slices(layout), cosines, strict=True):
        row[where] = at_cosine(base[where], weights[where], cosine)
    return row


def with_norm(row: Float[Tensor, " params"], norm: float | Tensor) -> Float[Tensor, " params"]:
    """``row`` at this length; zero stays zero."""
    scaled: Tensor = row * (norm / row.norm().clamp_min(TINY))
    return scaled


def reversed_mean(
    rows: Float[Tensor, "honest params"], weights: Float[Tensor, " params"], layout: Layout, share: float, norm: float
) -> Float[Tensor, " params"]:
    """The honest mean reversed in all directions but that of the weights, at ``share`` of the typical cosine with them
    in each layer, and ``norm`` typical norms long."""
    cosines = [share * cosine for cosine in typical_cosines(rows, weights, layout)]
    return with_norm(layers_at_cosines(-rows.mean(0), weights, layout, cosines), norm * median_norm(rows))
