r"""Two distributions that are at least as far apart as any two neighbouring outputs of one step.

A pair :math:`(P, Q)` dominates a mechanism when :math:`H_\alpha(M(D) \| M(D')) \le H_\alpha(P \| Q)` for all neighbours
and all :math:`\alpha \ge 0`, with the hockey-stick divergence :math:`H_\alpha(P \| Q) = \int (P - \alpha Q)_+`. Steps
that are chosen by what earlier ones gave are dominated, all together, by the product of their pairs (Zhu, Dong and Wang
2022). With :math:`\alpha = e^\epsilon`, :math:`\delta(\epsilon) = H_\alpha`.

Let :math:`B = N(0, \sigma^2)` and :math:`A = (1 - q) N(0, \sigma^2) + q N(1, \sigma^2)`, noise in units of the
sensitivity. :math:`A / B` grows with :math:`x`, from :math:`1 - q`, and is 1 at :math:`x = 1/2`.

``remove``, ``add``
    Poisson sampling; neighbours differ by one unit that is there (is not zero). Their outputs, given all other coins,
    are :math:`A` and :math:`B` for a unit that lies as far out as it can; any other is closer (the step along its
    direction is all that tells, and :math:`H_\alpha(N(a) \| N(0))` grows with a). Whichever of the two data sets is
    the true one stays so in every step, so :math:`(A, B)` and :math:`(B, A)` are composed each by itself, and epsilon
    is the larger of the two.

``replace``
    Exactly :math:`m = qn` of n units are drawn, and neighbours replace one unit, by whose replacement a sum moves by
    one at most. Draw m - 1 of the other units, and one more, j, of those that are left: the cohort is the first with
    the unit in question, x or x', with probability q, else with j. Given these draws the outputs are
    :math:`M = q N(x) + (1 - q) N(j)` and :math:`M' = q N(x') + (1 - q) N(j)`, where x, x' and j are at most one apart.
    For :math:`\alpha \ge 1` let :math:`\alpha' = 1 + (\alpha - 1) / q` and :math:`\beta = \alpha / \alpha' \le 1`. Then
    :math:`M - \alpha M' = q\,(N(x) - \alpha' [(1 - \beta) N(j) + \beta N(x')])`, and since :math:`H` is convex in its
    second argument

    .. math:: H_\alpha(M \| M') \le q \max_{|a| \le 1} H_{\alpha'}(N(a) \| N(0)) = q H_{\alpha'}(N(1) \| N(0))
              = H_\alpha(A \| B)

    (Balle, Barthe and Gaboardi 2018, whose bound this is). It is convex in the pair too, so it holds for the mixture
    over all draws. The same for M' and M, because either may be the replaced one, and
    :math:`H_\alpha(M \| M') = 1 - \alpha + \alpha H_{1/\alpha}(M' \| M)` says what that means for :math:`\alpha < 1`:
    :math:`H_\alpha(M \| M') \le H_\alpha(B \| A)`. Both at once are reached by one pair: P has the density of A on
    :math:`x > 1/2`, that of B on a second copy of :math:`x > 1/2`, and the rest, (1 - q)(1 - 2 Pr[B > 1/2]) >= 0, on
    one point; Q has B, A and the same point. The point adds nothing above :math:`\alpha = 1`, nor does the copy.

So the privacy loss :math:`\log(P/Q)` under P is that of ``remove`` above 0, that of ``add`` below 0, and 0 otherwise.
Without sampling (q = 1) all three are the same.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from scipy.special import log_ndtr, ndtr

Direction = Literal["remove", "add", "replace"]

PROFILE_ERROR: Final = 128 * 2.0**-53
"""Of delta in :func:`profile`, absolutely: some twenty operations with IEEE double, on numbers that are 1 at most or
exponentials of what has at most 50 times the rounding of 1."""


def cdf(noise: float, rate: float, direction: Direction, losses: np.ndarray) -> np.ndarray:
    """Probability, under P, that the privacy loss of one step is at most so much.

    Args:
        noise: standard deviation / sensitivity, > 0.
        rate: probability of being drawn, in (0, 1].
        direction: which pair.
        losses: privacy losses.
    """
    if direction == "replace":
        return np.where(losses < 0, cdf(noise, rate, "add", losses), cdf(noise, rate, "remove", losses))
    ratio = losses if direction == "remove" else -losses  # log(A / B) at the edge of the event
    above = np.exp(ratio) - (1 - rate)
    possible = above > 0
    scaled = noise * np.log(np.where(possible, above, 1.0) / rate)  # (x - 1/2) / noise there
    half = 1 / (2 * noise)
    if direction == "remove":
        return np.where(possible, (1 - rate) * ndtr(scaled + half) + rate * ndtr(scaled - half), 0.0)
    return np.where(possible, ndtr(-scaled - half), 1.0)


def profile(noise: float, rate: float, direction: Direction, epsilons: np.ndarray) -> np.ndarray:
    """Delta at each epsilon, of either sign, of one step; within :data:`PROFILE_ERROR`.

    Args:
        noise: standard deviation / sensitivity, > 0.
        rate: probability of being drawn, in (0, 1].
        direction: which pair.
        epsilons: not so large that their exponential overflows.
    """
    if direction == "replace":
        return np.where(epsilons < 0, profile(noise, rate, "add", epsilons), profile(noise, rate, "remove", epsilons))
    ratio = epsilons if direction == "remove" else -epsilons
    excess = np.expm1(ratio) / rate  # exp of z, less 1
    above = np.exp(ratio) - (1 - rate)  # exp of z, times the rate
    possible = above > 0
    # far below 0, where 1 + excess would have lost its digits; exactly ratio without sampling
    small = np.log(np.where(possible, above, 1.0)) - np.log(rate)
    z = np.where(excess < -0.5, small, np.log1p(np.maximum(excess, -0.5)))
    low, high = noise * z + 1 / (2 * noise), noise * z - 1 / (2 * noise)  # x and x - 1, over noise
    if direction == "remove":
        inside = rate * (ndtr(-high) - np.exp(z + log_ndtr(-low)))
        return np.asarray(np.clip(np.where(possible, inside, -np.expm1(np.minimum(ratio, 0))), 0.0, 1.0))
    share = -np.expm1(np.log1p(-rate) - ratio) if rate < 1 else np.ones_like(ratio)  # 1 - (1 - q) exp(epsilon)
    inside = share * ndtr(low) - np.exp(np.log(rate) - ratio + log_ndtr(high))
    return np.asarray(np.clip(np.where(possible, inside, 0.0), 0.0, 1.0))
