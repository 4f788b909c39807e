r"""Guidance: from landscape energy D to importance G in [0, 1], and how D and the parameter agreement A evolve.

.. math::
    D \leftarrow (1-\beta) D + \beta \sum_k \omega_k u_k^2 / \|u_k\|^2, \qquad
    A_j \leftarrow (1-\beta) A_j + \beta\, |\sum_k \omega_k u_{kj}| / \sum_k \omega_k |u_{kj}|

G is made from D per hidden weight tensor, so its scale is comparable between tensors. The paper gives G in [0, 1]; the
authors' older code has ``minmax`` and ``robust_scaler``; ``sqrt_q99`` is this project's default.

In that code (ChristianInterno/AutoFLIP@73dedb3, without a licence: described, not copied) nothing evolves: where all
explore, G is made anew after every round, of the deviations that *its participants* found before round 1. That is
``matrix: per_round``; A alone evolves then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, ascending, quantile
from autoflip_secure.interfaces import Config, Exploration, Guidance
from autoflip_secure.models.layout import Layout

Normalisation = Literal["sqrt_q99", "minmax", "robust_scaler", "log", "rank", "relative"]


class GuidanceConfig(Config):
    """How energy becomes guidance, and how it evolves."""

    source: ClassVar[str] = "AutoFLIP paper, phase 2; docs/algorithm.md"
    normalisation: Normalisation = Field(default="sqrt_q99", description="energy -> guidance, per weight tensor")
    beta: Annotated[float, Field(ge=0, le=1, description="weight of the newest round in D and A; 0 = static")] = 0.1
    matrix: Literal["once", "per_round"] = Field(
        default="once",
        description="D of all explorers, which evolves; per_round: after every round D of those who took part in it, "
        "and the mask drawn anew (the authors' code of 2024)",
    )


def _scale(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Clip (x - low) / (high - low) to [0, 1]; all ones when there is nothing to tell apart."""
    if not high > low:
        return torch.ones_like(x)
    return ((x - low) / (high - low)).clamp(0, 1)


def _sqrt_q99(d: Tensor) -> Tensor:
    s = d.sqrt()
    return _scale(s, s.min(), quantile(s, 0.99))


def _robust_scaler(d: Tensor) -> Tensor:
    centre, spread = quantile(d, 0.5), quantile(d, 0.75) - quantile(d, 0.25)
    return _scale(d, centre, centre + spread)


def _log(d: Tensor) -> Tensor:
    s = torch.log1p(d / d.mean().clamp_min(TINY**2))
    return _scale(s, s.min(), s.max())


def _rank(d: Tensor) -> Tensor:
    return torch.searchsorted(ascending(d), d).to(d.dtype) / max(len(d) - 1, 1)


NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sqrt_q99": _sqrt_q99,
    "minmax": lambda d: _scale(d, d.min(), d.max()),
    "robust_scaler": _robust_scaler,
    "log": _log,
    "rank": _rank,
    "relative": lambda d: d / (d + d.mean()).clamp_min(TINY**2),
}


def normalise(energy: Float[Tensor, " params"], layout: Layout, kind: str = "sqrt_q99") -> Float[Tensor, " params"]:
    """Guidance matrix G as a vector: in [0, 1] on hidden weights, 1 on exempt coordinates."""
    guidance = torch.ones_like(energy)
    for segment in layout.hidden:
        guidance[segment.slice] = NORMALISATIONS[kind](energy[segment.slice])
    return guidance


def initial_guidance(exploration: Exploration) -> Guidance:
    """Energy D_0 of the exploration; every weight starts with full parameter agreement."""
    return Guidance(exploration.energy, torch.ones_like(exploration.energy))


def evolve(
    guidance: Guidance, updates: Float[Tensor, "clients params"], trust: Float[Tensor, " clients"], beta: float
) -> Guidance:
    """One round's refinement by the updates u_k, weighted with the trust omega_k that the aggregator gave them.

    Coordinates that nobody moved keep their agreement; with no trusted client at all nothing changes.
    """
    if beta == 0 or not bool((trust > 0).any()):
        return guidance
    spare = updates.square()
    energy = (trust / spare.sum(1).clamp_min(TINY**2)) @ spare
    energy = energy.mul_(beta).add_(guidance.energy * (1 - beta))
    moved = trust @ torch.abs(updates, out=spare)
    agreement = (trust @ updates).abs_().div_(moved.clamp_min(TINY**2))
    agreement = agreement.mul_(beta).add_(guidance.parameter_agreement * (1 - beta))
    agreement = torch.where(moved > 0, agreement, guidance.parameter_agreement)
    return Guidance(energy, agreement)
