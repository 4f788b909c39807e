r"""Agreement and radial scores, and the aggregate weighted with them, of updates that nobody may see.

Clients clip u_k to the public norm B, round it to integers and share it. What is revealed a round and client:

.. math::
    \langle u_k, v \rangle \text{ for public } v, \qquad \|u_k\|_g^2 \text{ for public groups } g \text{ of coordinates}
    \text{ (exact, or of a count-sketch)}, \qquad \text{and } \textstyle\sum_k w_k u_k \text{ once}

and, for the landscape agreement alone, one number that a client says (:func:`own_agreement`).

From these numbers the scores follow in the open, by the same code that judges plain updates. Nothing is truncated or
divided on shares. B leaves room for a liar's norm of 16 B inside the ring; larger norms, which could wrap around to a
small one, show in products with public random signs (4 a client).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementState, AgreementWeighted
from autoflip_secure.algorithm.energy_profile import GROUPS, affinity, grouped, landscape_groups
from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.algorithm.radial_agreement import RadialAgreement, RadialNumbers, RadialState
from autoflip_secure.defenses.secure_aggregation.scored_rows import (
    DEVIATIONS,
    needs_claims,
    refusal,
)
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Aggregate, Guidance
from autoflip_secure.models.layout import Layout
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import SecretRows, Sketch, public_signs
from autoflip_secure.secure_rows.secure_sum import LEAST_CROWD

WEIGHT_BITS = 24  # of the public weights in the one sum
CHUNK = 2**25  # entries of public vectors held at once


@dataclass(frozen=True)
class SecureView:
    """One round as the server sees it: a :class:`autoflip_secure.interfaces.RoundView` without rows."""

    clients: Int[Tensor, " clients"]  # in the order of the secret rows
    samples: Float[Tensor, " clients"]
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]
    guidance: Guidance | None
    layout: Layout
    shrinkage: Float[Tensor, " clients"]

    @property
    def live(self) -> Bool[Tensor, " params"]:
        """Coordinates that are scored: trained and not masked."""
        return self.mask & self.layout.trained.to(self.mask.device)


@dataclass(frozen=True)
class SecretUpdates:
    """The updates of a cohort in shares."""

    rows: SecretRows  # u_k
    points: FixedPoint
    bound: float  # B
    claims: Float[Tensor, " clients"] | None = None  # landscape agreements, as clients say; see :func:`own_agreement`


@dataclass(frozen=True)
class _Reader:
    """Reads numbers off secret rows, in double."""

    points: FixedPoint
    draws: torch.Generator
    width: int | None  # buckets a group; None: exact norms

    def products(self, rows: SecretRows, vectors: Float[Tensor, "vectors params"]) -> Float[Tensor, "clients vectors"]:
        """<x_k, v> for real v, each scaled to norm 1 before it is rounded: Cauchy-Schwarz keeps the ring."""
        norms = vectors.double().norm(dim=1).clamp_min(TINY)
        unit = FixedPoint.for_squares(1.0, rows.params)
        step = max(1, CHUNK // rows.params)
        found = []
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step].double() / norms[start : start + step, None]
            whole = unit.encode(part, range(len(part)))
            found.append(self.points.decode(rows.products(whole), times=unit).cpu())
        products: Tensor = torch.cat(found, dim=1) * norms.cpu()
        return products

    def squares(self, rows: SecretRows, groups: Tensor, count: int) -> Float[Tensor, "clients groups"]:
        """||x_k||_g^2, exact or of a fresh sketch."""
        if self.width is None:
            sketch, starts = Sketch.exact(groups, count)
        else:
            sketch, starts = Sketch.random(groups, count, self.width, self.draws)
        return self.points.decode(rows.squared_norms(sketch, starts), power=2).cpu()

    def within(self, rows: SecretRows, live: Tensor, bound: float) -> Bool[Tensor, " clients"]:
        """Whether products with random signs are those of rows with norm at most ``bound`` (and rounding)."""
        signs = public_signs(rows.params, self.draws) * live.cpu().to(torch.int8)
        products = self.points.decode(rows.products(signs)).cpu()
        most = DEVIATIONS * (bound + float(live.sum()) ** 0.5 * self.points.unit / 2)
        small: Tensor = products.abs().amax(1) <= most
        return small


def secure_aggregate(
    aggregator: AgreementWeighted | RadialAgreement,
    state: AgreementState | RadialState,
    view: SecureView,
    updates: SecretUpdates,
    draws: torch.Generator,
    width: int | None = 256,
) -> Aggregate:
    """Score every participant and take the weighted, clipped mean, on secret rows.

    Args:
        aggregator: one that :func:`refusal` lets pass.
        state: its state; the new one is in the result.
        view: the round.
        updates: rows of :func:`clipped` updates, encoded with :func:`update_points`.
        draws: source of public signs and sketches, not known to the clients before their shares are sent.
        width: buckets of the sketch for each group of coordinates; None: exact norms, one Beaver product a coordinate.

    Returns:
        As from ``aggregator.aggregate``. A client whose row cannot be one of :func:`clipped` has score and trust 0 and
        leaves no memory. With fewer than two clients to be trusted there is no step: it would show one's update.

    Raises:
        InputError: the aggregator needs more than may be revealed, or shares of |u_k| are missing.
    """
    reason = refusal(aggregator)
    if reason is not None:
        raise InputError(f"secure sum: {reason}")
    if needs_claims(aggregator) and updates.claims is None:
        raise InputError(
            "secure sum: the landscape agreement needs a number that clients state, and there is none; give claims, "
            "or use the statistic 'profile', which needs none"
        )
    reader = _Reader(updates.points, draws, width)
    valid = reader.within(updates.rows, view.live, updates.bound)
    if isinstance(aggregator, RadialAgreement):
        assert isinstance(state, RadialState)
        return _radial(aggregator, state, view, updates, reader, valid)
    assert isinstance(state, AgreementState)
    return _agreement(aggregator, state, view, updates, reader, valid)


def _agreement(
    aggregator: AgreementWeighted,
    state: AgreementState,
    view: SecureView,
    updates: SecretUpdates,
    reader: _Reader,
    valid: Tensor,
) -> Aggregate:
    assert view.guidance is not None
    live, rows = view.live, updates.rows
    groups = landscape_groups(view.guidance.energy, live)
    energies = grouped(view.guidance.energy[None], groups, GROUPS)[0]
    squares = reader.squares(rows, groups, GROUPS)
    norms = squares.sum(1).clamp_min(0).sqrt()
    statistics = {"profile": affinity(squares, energies.cpu()), "size": -norms.clamp_min(TINY).log()}
    if "direction" in aggregator.statistics:
        statistics["direction"] = torch.full_like(norms, torch.nan)
        if bool(state.memory.any()):
            product = reader.products(rows, (state.memory * live)[None])[:, 0]
            statistics["direction"] = product / (norms * float((state.memory * live).norm())).clamp_min(TINY)
    if updates.claims is not None and "landscape" in aggregator.statistics:
        claimed = updates.claims.cpu().nan_to_num(nan=0.0).clamp(0, 1)
        # no true |u_k| can exceed the profile of u_k itself, so no claim may
        statistics["landscape"] = torch.minimum(claimed, statistics["profile"])
    fresh: dict[str, Tensor] = {name: statistics[name].to(view.weights) for name in aggregator.statistics}
    here = valid.to(view.clients.device)
    inside: dict[str, Tensor] = {name: value[here] for name, value in fresh.items()}
    scored = aggregator.scores_from_numbers(
        state, view.clients[here], view.samples[here], inside, norms.to(view.weights)[here]
    )
    trust, delta = _step(updates, valid, scored.trust, scored.factors)
    after = aggregator.remember(state, scored, delta * view.layout.trained.to(delta.device))
    return Aggregate(delta, trust, _spread(scored.scores, valid), after, fresh)


def _radial(
    aggregator: RadialAgreement,
    state: RadialState,
    view: SecureView,
    updates: SecretUpdates,
    reader: _Reader,
    valid: Tensor,
) -> Aggregate:
    live, rows = view.live, updates.rows
    weights = view.weights.double() * live
    low = aggregator.low_set(state, view.mask, view.layout)
    # group 2l: layer l outside the low set; 2l + 1: inside it; last: what belongs to no layer that counts
    layers = [group for group in view.layout.layers if not group[0].normalised]
    count = 2 * len(layers) + 2
    groups = torch.full(live.shape, count - 2, dtype=torch.int64, device=live.device)
    for number, layer in enumerate(layers):
        groups[layer[0].start : layer[-1].stop] = 2 * number
    groups = torch.where(live, groups + low.long(), -1)
    onto = torch.stack([weights * (groups == g) for g in range(count)])
    shrinkage = view.shrinkage.double().cpu()[:, None]
    products, squared = reader.products(rows, onto), onto.square().sum(1).cpu()
    squares = reader.squares(rows, groups, count) + shrinkage * (2 * products + shrinkage * squared)
    squares, products = squares.clamp_min(0), products + shrinkage * squared
    in_layer = [x[..., : count - 2].reshape(*x.shape[:-1], -1, 2).sum(-1) for x in (products, squares, squared)]
    if not layers:  # as in the open: of the whole update
        in_layer = [x.sum(-1, keepdim=True) for x in (products, squares, squared)]
    cosines = in_layer[0] / (in_layer[1] * in_layer[2]).sqrt().clamp_min(TINY)
    numbers = RadialNumbers(
        norms=squares.sum(1).sqrt(),
        shat=(squares[:, 1::2].sum(1) / max(int(low.sum()), 1)).sqrt(),
        along=products.sum(1),
        layers=cosines.mean(1),
    )
    here = valid.to(view.clients.device)
    inside = RadialNumbers(*(x.to(view.weights)[here] for x in vars(numbers).values()))
    own = view.weights * view.layout.trained.to(view.weights.device)
    scored = aggregator.scores_from_numbers(
        state, view.clients[here], view.samples[here], inside, own, view.mask, view.layout
    )
    trust, delta = _step(updates, valid, scored.trust, scored.factors)
    statistics = {name: _spread(value, valid) for name, value in scored.statistics.items()}
    return Aggregate(delta, trust, _spread(scored.scores, valid), scored.state, statistics)


def _spread(values: Tensor, valid: Tensor) -> Tensor:
    """Values of the valid clients in their places among all; 0 elsewhere."""
    spread = values.new_zeros(len(valid))
    spread[valid.to(values.device)] = values
    return spread


def _step(updates: SecretUpdates, valid: Tensor, trust: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Trust of all clients, and the one sum that is revealed: decoded in double, then as exact as the weights are."""
    weights = _spread((trust * factors).double().cpu() * 2.0**WEIGHT_BITS, valid).round().long()
    if int((weights > 0).sum()) < LEAST_CROWD:
        return _spread(torch.zeros_like(trust), valid), trust.new_zeros(updates.rows.params)
    total = updates.points.decode(updates.rows.total(weights)) * 2.0**-WEIGHT_BITS
    return _spread(trust, valid), total.to(trust)
