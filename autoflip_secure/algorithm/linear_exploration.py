r"""The landscape from sums alone: robust exploration for explorers whose deviations nobody may see.

.. math::
    e_k = d_k^2 / \|d_k\|^2, \quad \bar e = \mathrm{mean}_k\, e_k, \quad
    S = \text{the 30\,\% of coordinates with the largest } \bar e, \quad T = \text{the 5\,\%}

    a_k = \sum_{j \in S} e_{kj}, \quad b_k = 1 - \sum_{j \in T} e_{kj}, \quad
    keep_k = [a_k \ge \mathrm{bound}(a)] [b_k \ge \mathrm{bound}(b)], \quad D_0 = \mathrm{mean}_{keep} e_k

with bound(x) = med(x) - 3 max(1.4826 MAD(x), 0.05 med(x)), as in the robust form. ``a`` is low where energy lies
anywhere (noise), ``b`` where it lies on a few coordinates (spikes). Every e_k sums to 1, so no explorer moves the
reference by more than 1/n and no norm is needed: everything is a sum, or a product with a public 0/1 vector. Cosines
with the mean need norms and are worse: noise of several explorers, or one spike, turns the mean
(``docs/secure_sums.md``).

The kept and the left-out explorers are each none or at least two, for the difference of two sums is a sum too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, low_bound
from autoflip_secure.errors import InputError
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import SecretRows, public_signs
from autoflip_secure.secure_rows.secure_sum import LEAST_CROWD

SUPPORT, PEAK = 0.3, 0.05  # shares of the coordinates: where an explorer's energy should be, and should not all be


@dataclass(frozen=True)
class LinearLandscape:
    """What the server learns."""

    energy: Float[Tensor, " params"]  # D_0 in double, sums to 1 (to 0 when nobody moved)
    agreement: Float[Tensor, " explorers"]  # a_k; 0: failed a check; all 1 where nothing but the sum is revealed
    kept: Bool[Tensor, " explorers"]
    invalid: tuple[int, ...]  # clients whose rows are no energies: entries outside [0, 1], or a sum that is not 1


def normalised_energy(deviations: Float[Tensor, "explorers params"]) -> Float[Tensor, "explorers params"]:
    """e_k: squared deviations of each explorer, scaled to sum 1."""
    squared = deviations.square()
    return squared / squared.sum(1, keepdim=True).clamp_min(TINY**2)


def energy_rows(deviations: Float[Tensor, "explorers params"]) -> Float[Tensor, "explorers params"]:
    """e_k in double: what each explorer computes by itself and sends in shares."""
    return normalised_energy(deviations.double())


def energy_points(explorers: int) -> FixedPoint:
    """The fixed point of e_k: entries in [0, 1], summed over the explorers."""
    return FixedPoint.for_sums(1.0, explorers)


def linear_landscape(
    rows: SecretRows, points: FixedPoint, reveal: str = "scores", draws: torch.Generator | None = None
) -> LinearLandscape:
    """D_0 from secret rows e_k.

    Args:
        rows: :func:`energy_rows` of the explorers, encoded with ``points``; of a client that did not move, zeros.
        points: see :func:`energy_points`.
        reveal: ``sum``: the sum of all rows and nothing else, every explorer counts alike, nobody is checked.
            ``scores``: a_k, b_k, the sum of the rows that are energies, and the sum of the kept ones.
        draws: source of the public signs of the check, not known to the explorers before their shares are sent; None:
            the rows were made by this process, need no check and are no secret.

    Raises:
        InputError: fewer than two secret rows are left, whose sum would hide nothing.
    """
    clients = len(rows.clients)
    everyone = torch.ones(clients, dtype=torch.bool)
    if draws is not None:
        _enough(clients, clients)
    if reveal == "sum":
        energy = _energy(points.decode(rows.total()))
        return LinearLandscape(energy, torch.ones(clients, dtype=torch.float64), everyone, ())
    valid = everyone
    if draws is not None:
        valid = _are_energies(rows, points, draws)
        _enough(int(valid.sum()), clients)
    sums = rows.total(valid.long())
    order = sums.argsort(descending=True, stable=True)
    sets = torch.zeros(2, rows.params, dtype=torch.int8, device=sums.device)
    for indicator, share in zip(sets, (SUPPORT, PEAK), strict=True):
        indicator[order[: max(1, round(share * rows.params))]] = 1
    inside = points.decode(rows.products(sets)).cpu()
    agreement, spread = torch.where(valid[:, None], inside, 0.0).T
    kept = valid.clone()
    for x in (agreement, 1 - spread):
        kept &= x >= low_bound(x[valid])
    kept = _crowds(kept, valid, agreement)
    if not torch.equal(kept, valid):
        sums = rows.total(kept.long())
    invalid = tuple(k for k, fine in zip(rows.clients, valid.tolist(), strict=True) if not fine)
    return LinearLandscape(_energy(points.decode(sums)), agreement, kept, invalid)


def _enough(usable: int, clients: int) -> None:
    if usable < LEAST_CROWD:
        raise InputError(
            f"exploration: {usable} of {clients} explorers sent usable energies, and a sum of fewer than {LEAST_CROWD} "
            "hides nothing; let more clients explore (exploration.explorers)"
        )


def _energy(sums: Tensor) -> Tensor:
    sums = sums.clamp_min(0)  # negative entries are a liar's
    return sums / sums.sum().clamp_min(TINY**2)


def _are_energies(rows: SecretRows, points: FixedPoint, draws: torch.Generator) -> Bool[Tensor, " explorers"]:
    """Non-negative entries with sum 1 have products with random signs in [-1, 1]; others fail each with chance 1/2."""
    signs = public_signs(rows.params, draws)
    ones = torch.ones(1, rows.params, dtype=torch.int8)
    products = points.decode(rows.products(torch.cat([ones, signs]))).cpu()
    slack = rows.params * points.unit / 2
    total, mixed = products[:, 0], products[:, 1:].abs().amax(1)
    still = (total.abs() <= 0) & (mixed <= 0)
    return still | (((total - 1).abs() <= slack) & (mixed <= 1 + slack))


def _crowds(kept: Tensor, valid: Tensor, agreement: Tensor) -> Tensor:
    """``kept`` such that neither group has exactly one member: the next lowest goes too, or nobody goes."""
    left_out = int((valid & ~kept).sum())
    if left_out == 0 or (left_out >= LEAST_CROWD and int(kept.sum()) >= LEAST_CROWD):
        return kept
    if left_out == 1 and int(kept.sum()) > LEAST_CROWD:
        lowest = torch.where(kept, agreement, torch.inf).argmin()
        kept = kept.clone()
        kept[lowest] = False
        return kept
    return valid
