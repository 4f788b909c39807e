r"""What is normal among clients, learned without a number about any of them: a histogram of votes.

Each participant votes for the bin of each of its statistics, in shares; the parties reveal the sum of the votes. Over
rounds the server keeps :math:`V \leftarrow 0.8 V + \text{votes}`, and reads off it the centre and spread that
:mod:`autoflip_secure.agreement` takes from the clients' own numbers:

.. math:: \tau = Q_{0.6}(V) - z\,\mathrm{clip}(1.4826\,\mathrm{med}|V - Q_{0.6}|, \mathrm{floor}, \mathrm{cap})

A liar has one vote in each round, as an attacker in the open has one update.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoflip_secure.agreement import STATISTICS

MEMORY = 0.8
BINS: dict[str, tuple[float, float, int]] = {  # from, to, how many; below and above count for the first and last
    "profile": (0.5, 1.0, 128),
    "size": (-8.0, 8.0, 128),  # of -log ||u||
    "direction": (-1.0, 1.0, 64),
}


def vote(name: str, value: float) -> Int[Tensor, " bins"]:
    """1 in the bin of ``value``, which is not NaN."""
    low, high, count = BINS[name]
    place = min(max(math.floor((value - low) / (high - low) * count), 0), count - 1)
    return torch.zeros(count, dtype=torch.int64).index_fill(0, torch.tensor(place), 1)


def middles(name: str) -> Float[Tensor, " bins"]:
    """Middle of each bin."""
    low, high, count = BINS[name]
    return low + (torch.arange(count, dtype=torch.float64) + 0.5) * (high - low) / count


def quantile_of(values: Float[Tensor, " n"], weights: Float[Tensor, " n"], q: float, width: float = 0.0) -> float:
    """Where the sum of the weights reaches q > 0; each weight lies evenly within ``width`` around its value."""
    order = values.argsort(stable=True)
    values, weights = values[order], weights[order]
    reached = weights.cumsum(0)
    aim = q * float(reached[-1])
    at = min(int(torch.searchsorted(reached, torch.tensor(aim, dtype=reached.dtype))), len(values) - 1)
    inside = 1 - (float(reached[at]) - aim) / float(weights[at])
    return float(values[at]) + width * (inside - 0.5)


def centre(name: str, votes: Float[Tensor, " bins"]) -> float:
    """Q_0.6, as for numbers in the open."""
    low, high, count = BINS[name]
    return quantile_of(middles(name), votes, 0.6, (high - low) / count)


def threshold(name: str, votes: Float[Tensor, " bins"], z: float) -> float:
    """The least value that is not more than ``z`` robust deviations below the centre."""
    middle = centre(name, votes)
    spread = 1.4826 * quantile_of((middles(name) - middle).abs(), votes, 0.5)
    statistic = STATISTICS[name]
    return middle - z * min(max(spread, statistic.floor), statistic.cap)
