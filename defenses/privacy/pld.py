r"""Privacy loss distributions composed by Google's dp-accounting, where it is installed (the extra ``accounting``).

The profile of each step's dominating pair (:mod:`.dominating_pairs`) is made discrete by connecting its dots
(Doroshenko et al. 2022): the straight lines between them, in :math:`e^\epsilon`, lie above a convex profile, so what is
composed dominates the steps, and what the library cuts off it adds at infinity. That is exact; rounding, with unit
roundoff :math:`u = 2^{-53}`, may take from delta, at T steps on grids of n points at most, h apart:

1. **Profiles.** The delta of a composition is the mean, over the loss of the other steps, of one step's delta. So what
   that is off by, :data:`~.dominating_pairs.PROFILE_ERROR`, counts once a step. Masses are differences of
   neighbouring deltas over :math:`e^h - 1`, each rounded three times: 8u/h a step. Masses below zero become zero, which
   adds.
2. **Transforms and powers** as in :mod:`.prv`, 3. and 4.: each frequency is off by :math:`T (\rho + 32u)`. A
   pass over r points at once (r up to 11) rounds less than :math:`\log_2 r` passes over two. Powers that go
   through a logarithm are off by a few u times :math:`T (\pi + |\log x|)` of what they are, :math:`|x|^T`.
3. **Back**, with weights in [0, 1]: at most :math:`\sqrt n` times that, and :math:`\rho \sqrt{2n}`. Two different
   mechanisms are put together by three more transforms.
4. **Sums** of n masses: 8nu. Losses, too, are found by n additions; that is added to epsilon.

All of it is taken off delta before epsilon is read. Where it is more than a tenth of delta, there is no number.
"""

from __future__ import annotations

from functools import lru_cache, partial
from importlib.util import find_spec
from math import ceil, exp, expm1, floor, isinf, log, log1p, log2, sqrt
from typing import Any

import numpy as np

from autoflip_secure.defenses.privacy.accountants import (
    LARGEST,
    ROUNDING_ERROR,
    Count,
    Mechanism,
    Pairs,
    over_directions,
    prv_epsilon,
    rdp_epsilon,
)
from autoflip_secure.defenses.privacy.dominating_pairs import PROFILE_ERROR, Direction, profile
from autoflip_secure.runtime.threads import one_thread

UNIT = 2.0**-53
FAR = 10.0
"""Standard deviations beyond which losses are moved inwards at the low end and to infinity at the high one."""
MESH, SHARE = 1e-3, 0.02
"""Points lie :data:`MESH` apart, or :data:`SHARE` over the root of the number of steps."""
MOST_CELLS = 2**20


def installed() -> bool:
    """Whether dp-accounting is there."""
    return find_spec("dp_accounting") is not None


@lru_cache(maxsize=10_000)
@one_thread()
def pld_epsilon(count: Count, delta: float) -> float | None:
    """Upper bound of epsilon by PLD; 0 when nothing was released.

    None without dp-accounting, or where rounding may be too large a part of so small a delta.
    """
    if not installed():
        return None
    if not count:
        return 0.0
    renyi = rdp_epsilon(count, delta)
    if renyi is None or renyi > LARGEST:
        return None
    return over_directions(count, partial(_one_way, delta))


def tightest(count: Count, delta: float) -> float | None:
    """The smallest epsilon that any of the accountants proves; None: none has a bound."""
    bounds = (rdp_epsilon(count, delta), prv_epsilon(count, delta), pld_epsilon(count, delta))
    return min((bound for bound in bounds if bound is not None), default=None)


def _merged(pairs: Pairs) -> Pairs:
    """What is not sampled put together: Gaussian mechanisms compose to one whose precision is the sum of theirs."""
    plain = [(mechanism, steps) for mechanism, steps, _ in pairs if mechanism.rate == 1]
    if not plain:
        return pairs
    precision = sum(steps / mechanism.noise_multiplier**2 for mechanism, steps in plain) * (1 + 1e-12)
    one: Pairs = [(Mechanism(1 / sqrt(precision), 1.0, "none"), 1, "remove")]
    return one + [pair for pair in pairs if pair[0].rate < 1]


def _one_way(delta: float, pairs: Pairs, coarseness: float) -> float | None:
    from dp_accounting.pld import pld_pmf

    pairs = _merged(pairs)
    steps = sum(n for _, n, _ in pairs)
    mesh = coarseness * min(MESH, SHARE / sqrt(steps))
    lost = points = 0.0
    whole: Any = None
    for mechanism, n, way in pairs:
        least, most = _range(mechanism, way)
        low, high = floor(least / mesh), ceil(most / mesh)
        if high - low > MOST_CELLS:
            return None
        deltas = profile(mechanism.noise_multiplier, mechanism.rate, way, np.arange(low, high + 1) * mesh)
        deltas = np.maximum.accumulate(deltas[::-1])[::-1]  # rounding may have made it grow
        step = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(mesh, low, high, deltas)
        many = step.self_compose(n)
        points = max(points, step.size, many.size)
        if whole is not None:
            points = max(points, whole.size + many.size)
        whole = many if whole is None else pld_pmf.compose_pmfs(whole, many)
        lost += n * (PROFILE_ERROR + (most - least) * UNIT + 8 * UNIT / mesh)
    points *= 2  # lengths of transforms are rounded up, to products of small primes
    rho = expm1(log2(points) * log1p(5 * UNIT))
    lost += sqrt(points) * (rho + 32 * UNIT) * (steps + 6 * len(pairs)) + 8 * points * UNIT
    if lost > ROUNDING_ERROR * delta:
        return None
    epsilon = float(whole.get_epsilon_for_delta(delta - lost))
    return None if isinf(epsilon) else epsilon + 4 * points * UNIT * (1 + points * mesh)


def _range(mechanism: Mechanism, way: Direction) -> tuple[float, float]:
    """Smallest and largest privacy loss, as far as :data:`FAR` standard deviations to either side of 0 and 1."""
    noise, rate = mechanism.noise_multiplier, mechanism.rate
    z = (FAR + 1 / (2 * noise)) / noise
    high = z + log(rate + (1 - rate) * exp(-z))  # log(A / B) at 1 + FAR noise
    low = log(1 - rate + rate * exp(-z)) if rate < 1 else -z  # at -FAR noise; nearer to 0
    return {"remove": (low, high), "add": (-high, -low), "replace": (-high, high)}[way]
