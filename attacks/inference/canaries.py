"""Canaries: what an auditor plants to see whether it shows. Each is in or out by a fair coin."""

from __future__ import annotations

from math import log, log1p

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


def coins(count: int, generator: torch.Generator) -> Bool[Tensor, " count"]:
    """Which canaries are in."""
    return torch.rand(count, generator=generator) < 0.5


def noise_images(
    count: int, like: Shaped[Tensor, "rows ..."], classes: int, generator: torch.Generator, brightness: float = 1.0
) -> tuple[Shaped[Tensor, "count ..."], Int[Tensor, " count"]]:
    """Inputs of random noise with random labels: what no other sample teaches.

    Args:
        count: how many.
        like: usual inputs; whole numbers (tokens) are drawn among those that occur.
        classes: labels are drawn from.
        generator: of both draws.
        brightness: length relative to usual inputs; a bright one has a gradient that every clip norm acts on.
    """
    shape = (count, *like.shape[1:])
    labels = torch.randint(0, classes, (count,), generator=generator).to(like.device)
    if not like.is_floating_point():
        places = torch.randint(0, like.numel(), shape, generator=generator).to(like.device)
        return like.flatten()[places], labels
    inputs = torch.randn(shape, generator=generator).to(like.device)
    return brightness * inputs * like[:1000].square().mean().sqrt(), labels


def directions(count: int, params: int, norm: float, generator: torch.Generator) -> Float[Tensor, "count params"]:
    """Random updates of one length, at right angles; nearly so (Andrew et al. 2023) where they are too many."""
    rows = torch.randn(count, params, generator=generator)
    if count <= params:
        rows = torch.linalg.qr(rows.T.double()).Q.T.to(rows.dtype)
    scaled: Tensor = norm * rows / rows.norm(dim=1, keepdim=True)
    return scaled


def evidence(
    seen: Float[Tensor, " canaries"], noise: float, otherwise: float, rate: float = 1.0
) -> Float[Tensor, " canaries"]:
    r"""Log-likelihood ratio of a canary being in, from what a noised sum shows of its direction.

    .. math::
        \log\frac{1 - q + q\, e^{(2x - 1) / 2\sigma^2}}{1 - q + q\, e^{(2ox - o^2) / 2\sigma^2}}

    Args:
        seen: x, in clip norms: about 1 if in and drawn.
        noise: sigma, in clip norms.
        otherwise: o, what x is about when the canary is out: 0 or -1.
        rate: q, the chance that a client is drawn.
    """
    x, scale = seen.double(), 2 * noise**2

    def of(mean: float) -> Tensor:
        power = (2 * mean * x - mean**2) / scale
        return power if rate >= 1 else torch.logaddexp(power + log(rate), torch.full_like(x, log1p(-rate)))

    return of(1.0) - of(otherwise)
