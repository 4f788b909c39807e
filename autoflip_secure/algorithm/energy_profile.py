r"""Energy profile: does a client spend its update on the parameters that the collective found worth moving?

Live coordinates are sorted by landscape energy D and cut into G = 16 groups g of equal size.

.. math:: P_k = \sum_g \sqrt{E_{kg} D_g} \in [0, 1], \quad
          E_{kg} = \sum_{j \in g} u_{kj}^2 / \|u_k\|^2, \quad D_g = \sum_{j \in g} D_j / \sum_j D_j

the Bhattacharyya coefficient of two distributions over groups. It is never below the landscape agreement
:math:`\cos(|u_k|, \sqrt D)` (Cauchy-Schwarz in every group), but averages over a group what single coordinates of one
client scatter, and takes squared norms only: no absolute values, which shares cannot give.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY, ascending

GROUPS = 16


def landscape_groups(
    energy: Float[Tensor, " params"], live: Bool[Tensor, " params"], count: int = GROUPS
) -> Int[Tensor, " params"]:
    """Group of each coordinate: 0 holds the largest energies; -1 where not ``live``."""
    places = live.nonzero().squeeze(1)
    groups = torch.full(live.shape, -1, dtype=torch.int64, device=live.device)
    groups[places] = _ranked(energy[places], count)
    return groups


def _ranked(values: Float[Tensor, " n"], count: int) -> Int[Tensor, " n"]:
    """Group of each value: rank (largest first, equal ones in order) times ``count`` over n, rounded down."""
    n = len(values)
    firsts = -(torch.arange(1, count, device=values.device) * -n // count)  # the rank with which each group starts
    ordered = ascending(values).flip(0)
    if n >= count and bool((ordered[firsts - 1] > ordered[firsts]).all()):  # no equal values in two groups, no NaN
        edges = ordered[firsts - 1].flip(0)
        return count - 1 - torch.bucketize(values, edges, right=True)
    ranks = torch.empty(n, dtype=torch.int64, device=values.device)
    ranks[values.argsort(descending=True, stable=True)] = torch.arange(n, device=values.device)
    return ranks * count // max(n, 1)


def affinity(squares: Float[Tensor, "clients groups"], energies: Float[Tensor, " groups"]) -> Float[Tensor, " clients"]:
    """P_k from squared norms and energies per group; 0 for a client that did not move."""
    squares = squares.clamp_min(0)
    root = (squares / squares.sum(1, keepdim=True).clamp_min(TINY**2)).sqrt()
    return root @ (energies / energies.sum().clamp_min(TINY**2)).sqrt()
