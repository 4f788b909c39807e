"""Canaries: what an auditor plants to see whether it shows. Each is in or out by a fair coin."""

from __future__ import annotations

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
    """Random updates of one length, nearly at right angles to each other (Andrew et al. 2023)."""
    rows = torch.randn(count, params, generator=generator)
    scaled: Tensor = norm * rows / rows.norm(dim=1, keepdim=True)
    return scaled


def along(step: Float[Tensor, " params"], canaries: Float[Tensor, "count params"]) -> Float[Tensor, " count"]:
    """How much of each canary is in the published step."""
    score: Tensor = canaries @ step
    return score
