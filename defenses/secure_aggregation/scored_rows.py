"""What scoring on shares asks of clients and rules: which rules can do with it, and what clients clip and claim."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementState, AgreementWeighted
from autoflip_secure.algorithm.order_statistics import TINY, clip_factors, quantile
from autoflip_secure.algorithm.radial_agreement import RadialAgreement, RadialState
from autoflip_secure.interfaces import Aggregator
from autoflip_secure.secure_rows.fixed_point import FixedPoint

LINEAR_STATISTICS = ("landscape", "profile", "size", "direction")  # products, norms and what clients say are enough
ROOM = 16  # norms up to this many B stay inside the ring
DEVIATIONS = 6  # honest products with random signs exceed so many B with a chance of 1e-8


def refusal(aggregator: Aggregator) -> str | None:
    """Why this aggregator cannot run on a secure sum; None: it can.

    On shares run the mean and the scores of this package, whatever a class derived from them does.
    """
    if aggregator.linear and not aggregator.foreign:
        return None
    if isinstance(aggregator, AgreementWeighted) and not aggregator.foreign:
        wrong = [name for name in aggregator.statistics if name not in LINEAR_STATISTICS]
        if not wrong:
            return None
        return (
            f"the statistic {wrong[0]!r} compares single updates with one another, which a secure sum hides; "
            f"use statistics among {', '.join(LINEAR_STATISTICS)}"
        )
    if isinstance(aggregator, RadialAgreement) and not aggregator.foreign:
        if aggregator.noise == "norm":
            return None
        return "noise: median needs every entry of an update, which a secure sum hides; use noise: norm"
    kind = getattr(aggregator, "kind", type(aggregator).__name__)
    return f"{kind!r} needs every client's update, which a secure sum hides; use 'mean', 'agreement' or 'radial'"


def needs_claims(aggregator: Aggregator) -> bool:
    """Whether each client has to say its landscape agreement, which no product or norm of its row gives."""
    return isinstance(aggregator, AgreementWeighted) and "landscape" in aggregator.statistics


def norm_bound(state: AgreementState | RadialState, weights: Float[Tensor, " params"]) -> float:
    """B: 8 typical norms r of clients seen before; in round 1, 4 norms of the weights. Public, as both are."""
    seen = state.log_norms if isinstance(state, AgreementState) else state.log_signal
    typical = float(quantile(seen, 0.4).exp())
    bound = 8 * typical if typical > 0 else 4 * float(weights.norm())
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


def own_agreement(
    update: Float[Tensor, " params"], root: Float[Tensor, " params"], live: Bool[Tensor, " params"]
) -> float:
    r"""What an honest client says of itself, :math:`\cos(|u_k|, \sqrt D)` over live coordinates.

    Absolute values are not linear, so nothing that is learned of u_k gives it, and shares of |u_k| would be as free to
    lie in as the one number that is wanted of them. What binds a liar is the profile of u_k, which no truth exceeds.

    Args:
        update: u_k.
        root: :math:`\sqrt D`, 0 where not live.
        live: coordinates that are scored.
    """
    own = (update if bool(live.all()) else update * live).abs()
    return float(own @ root.to(own)) / max(float(own.norm()) * float(root.norm()), TINY)
