"""The clients' side of a round whose updates are scored on shares: what each one clips, encodes and says of itself."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, clip_factors
from autoflip_secure.secure_rows.fixed_point import FixedPoint

ROOM = 16  # norms up to this many B stay inside the ring


def norm_bound(typical: float | None, weights: Float[Tensor, " params"]) -> float:
    """B: 8 typical norms r of clients seen before; where none is known, 4 norms of the weights. Public, as both are."""
    bound = 8 * typical if typical is not None else 4 * float(weights.norm())
    return bound if bound > 0 else 1.0


def update_points(bound: float, params: int) -> FixedPoint:
    """The fixed point of updates that are scored: squares of norms up to 16 B stay inside the ring."""
    return FixedPoint.for_squares(ROOM * bound, params)


def clipped(
    updates: Float[Tensor, "clients params"], bound: float, live: Bool[Tensor, " params"]
) -> Float[Tensor, "clients params"]:
    """What each honest client does before it shares: if its live part is longer than B, scaled down, in double."""
    own = updates if bool(live.all()) else updates * live
    norms = torch.linalg.vector_norm(own, dim=1, keepdim=True, dtype=torch.float64)
    factors = clip_factors(norms, bound)
    if bool((factors == 1).all()):
        return updates
    return torch.where(live, updates.double() * factors, updates.double())


def own_cosine(
    update: Float[Tensor, " params"], root: Float[Tensor, " params"], live: Bool[Tensor, " params"]
) -> float:
    r"""What an honest client says of itself, :math:`\cos(|u_k|, v)` over live coordinates, as :math:`v = \sqrt D`.

    Absolute values are not linear, so nothing that is learned of u_k gives it, and shares of |u_k| would be as free to
    lie in as the one number that is wanted of them.

    Args:
        update: u_k.
        root: v, 0 where not live.
        live: coordinates that are scored.
    """
    own = (update if bool(live.all()) else update * live).abs()
    return float(own @ root.to(own)) / max(float(own.norm()) * float(root.norm()), TINY)
