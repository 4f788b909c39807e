r"""Rényi privacy of the Gaussian mechanism on a cohort drawn without replacement (Wang, Balle, Kasiviswanathan 2019).

Theorem 9, for neighbours that differ in one replaced element, sampling rate :math:`\gamma` and integer orders
:math:`\alpha \ge 2`, with :math:`\epsilon(j) = j / (2\sigma^2)` of the mechanism that is not sampled:

.. math::
    \epsilon'(\alpha) \le \tfrac{1}{\alpha - 1} \log\Big(1 + \gamma^2 \tbinom{\alpha}{2}
        \min\{4(e^{\epsilon(2)} - 1), 2 e^{\epsilon(2)}\}
        + \sum_{j=3}^{\alpha} 2 \gamma^j \tbinom{\alpha}{j} e^{(j-1)\epsilon(j)}\Big)

Never worse than not sampled at all, which is a bound too. Between whole orders :math:`(\alpha-1)\epsilon(\alpha)` is
convex, so the chord is a bound (Corollary 10).
"""

from __future__ import annotations

from math import ceil, exp, expm1, floor, lgamma, log

import numpy as np


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
            known[order] = (order - 1) * _whole_order(rate, noise_multiplier, order)
        return known[order]

    bounds = []
    for order in orders:
        low, high = floor(order), ceil(order)
        chord = cumulant(low) if low == high else (high - order) * cumulant(low) + (order - low) * cumulant(high)
        bounds.append(min(chord / (order - 1), order / (2 * noise_multiplier**2)))
    return np.array(bounds)


def _whole_order(rate: float, noise_multiplier: float, order: int) -> float:
    plain = order / (2 * noise_multiplier**2)
    if rate == 1:
        return plain
    pair = 1 / noise_multiplier**2  # epsilon(2)
    second = log(min(4 * expm1(pair), 2 * exp(pair))) if pair < 500 else log(2) + pair
    logs = [0.0, 2 * log(rate) + _log_binomial(order, 2) + second]
    logs += [
        log(2) + j * log(rate) + _log_binomial(order, j) + (j - 1) * j / (2 * noise_multiplier**2)
        for j in range(3, order + 1)
    ]
    return min(float(np.logaddexp.reduce(logs)) / (order - 1), plain)


def _log_binomial(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
