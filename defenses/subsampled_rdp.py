r"""Rényi privacy of the Gaussian mechanism on a cohort drawn without replacement.

By the pair :math:`(P, Q)` that dominates one step where neighbours replace one unit
(:mod:`defenses.dominating_pairs`): with :math:`v = q(e^z - 1)`, :math:`B = N(0, \sigma^2)` and
:math:`p = \Pr[B > 1/2]`, at whole orders :math:`\alpha \ge 2`

.. math::
    e^{(\alpha-1) \epsilon(\alpha)} = \int_{1/2}^\infty B\,(1+v)^\alpha + \int_{1/2}^\infty B\,(1+v)^{1-\alpha}
        + (1-q)(1-2p)

The first integral is :math:`\sum_k \binom{\alpha}{k} (1-q)^{\alpha-k} q^k e^{k(k-1)/2\sigma^2} \Phi((k-1/2)/\sigma)`.
The second is at most p, and at most what :math:`(1+v)^{1-\alpha} \le 1 - (\alpha-1)v + \tfrac{\alpha(\alpha-1)}2 v^2`
gives (v is not negative there). Put together, :math:`1 + \alpha(\alpha-1) \int Bv^2 + \sum_{j \ge 3} \binom{\alpha}{j}
\int Bv^j`, each over :math:`x > 1/2`: never above Theorem 9 of Wang, Balle and Kasiviswanathan (2019), term by term.

Never worse than not sampled at all. Between whole orders :math:`(\alpha-1)\epsilon(\alpha)` is convex, and 0 at 1, so
the chord is a bound.
"""

from __future__ import annotations

from math import ceil, exp, floor, inf, log, log1p

import numpy as np
from scipy.special import gammaln, log_ndtr, ndtr


def fixed_cohort_rdp(rate: float, noise_multiplier: float, orders: tuple[float, ...]) -> np.ndarray:
    """RDP of one release at each order.

    Args:
        rate: share of the population that is drawn, in (0, 1].
        noise_multiplier: noise / sensitivity under replacement, > 0.
        orders: each > 1.
    """
    known = {1: 0.0}  # (order - 1) · RDP at whole orders

    def cumulant(order: int) -> float:
        if order not in known:
            known[order] = _cumulant(rate, noise_multiplier, order)
        return known[order]

    bounds = []
    for order in orders:
        low, high = floor(order), ceil(order)
        chord = cumulant(low) if low == high else (high - order) * cumulant(low) + (order - low) * cumulant(high)
        bounds.append(min(chord / (order - 1), order / (2 * noise_multiplier**2)))
    return np.array(bounds)


def _cumulant(rate: float, noise: float, order: int) -> float:
    """(order - 1) · RDP, at most."""
    plain = order * (order - 1) / (2 * noise**2)
    if rate == 1:
        return plain
    k = np.arange(order + 1)
    logs = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1) + k * log(rate) + (order - k) * log1p(-rate)
    logs = logs + k * (k - 1) / (2 * noise**2) + log_ndtr((k - 0.5) / noise)
    p = float(ndtr(-0.5 / noise))
    square = inf  # the integral of B (exp(z) - 1)²
    if noise > 0.05:  # below, its exponential may overflow, and p is the smaller bound
        square = exp(1 / noise**2) * float(ndtr(1.5 / noise)) - 2 * (1 - p) + p
    second = p - (order - 1) * rate * (1 - 2 * p) + order * (order - 1) / 2 * rate**2 * square
    rest = min(second, p) + (1 - rate) * (1 - 2 * p)
    return min(float(np.logaddexp(np.logaddexp.reduce(logs), log(rest))), plain)
