r"""Rényi privacy of the Gaussian mechanism on what was drawn at random.

With Poisson sampling at rate q, at whole orders (Mironov, Talwar and Zhang 2019, section 3.3):

.. math::
    e^{(\alpha-1) \epsilon(\alpha)} = \sum_k \binom{\alpha}{k} (1-q)^{\alpha-k} q^k e^{k(k-1)/2\sigma^2}

On a cohort drawn without replacement, by the pair :math:`(P, Q)` that dominates one step where neighbours replace one
unit (:mod:`.dominating_pairs`): with :math:`v = q(e^z - 1)`, :math:`B = N(0, \sigma^2)` and
:math:`p = \Pr[B > 1/2]`, at whole orders :math:`\alpha \ge 2`

.. math::
    e^{(\alpha-1) \epsilon(\alpha)} = \int_{1/2}^\infty B\,(1+v)^\alpha + \int_{1/2}^\infty B\,(1+v)^{1-\alpha}
        + (1-q)(1-2p)

The first integral is :math:`\sum_k \binom{\alpha}{k} (1-q)^{\alpha-k} q^k e^{k(k-1)/2\sigma^2} \Phi((k-1/2)/\sigma)`.
The second is :math:`p - (\alpha-1) q (1-2p)` and the integral of B times
:math:`g = (1+v)^{1-\alpha} - 1 + (\alpha-1) v`. That grows with x, so a sum over cells, of the mass of each times g
at its far end, is no less; beyond the last cell g is below :math:`(\alpha-1) v`. Since
:math:`g \le \tfrac{\alpha(\alpha-1)}2 v^2`, all of it is, but for the width of the cells, at most
:math:`1 + \alpha(\alpha-1) \int Bv^2 + \sum_{j \ge 3} \binom{\alpha}{j} \int Bv^j`, each over :math:`x > 1/2`: below
Theorem 9 of Wang, Balle and Kasiviswanathan (2019), term by term.

Never worse than not sampled at all. Between whole orders :math:`(\alpha-1)\epsilon(\alpha)` is convex, and 0 at 1, so
the chord is a bound.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, comb, floor, inf, log, log1p

import numpy as np
from scipy.special import gammaln, log_ndtr, ndtr

CELLS = 512
"""To a standard deviation, or to so much of it as changes z by one."""
SMALL_NOISE = 0.05
"""Below it exponentials would overflow: the second integral is then bounded by p."""


def poisson_rdp(rate: float, noise_multiplier: float, orders: tuple[float, ...]) -> np.ndarray:
    """RDP of one release at each order; terms are all positive, so nothing cancels.

    Args:
        rate: chance of each unit to be drawn, in [0, 1].
        noise_multiplier: noise / sensitivity, > 0.
        orders: whole numbers from 2 on.
    """
    if rate in (0.0, 1.0):
        return rate * np.array(orders) / (2 * noise_multiplier**2)
    found = []
    for order in map(int, orders):
        k = np.arange(order + 1)
        logs = _log_binomials(order) + k * log(rate) + (order - k) * log1p(-rate)
        logs = logs + k * (k - 1) / (2 * noise_multiplier**2)
        largest = logs.max()
        found.append((largest + log(np.exp(logs - largest).sum())) / (order - 1))
    return np.array(found)


@lru_cache(maxsize=1000)
def _log_binomials(order: int) -> np.ndarray:
    return np.array([log(comb(order, k)) for k in range(order + 1)])


def fixed_cohort_rdp(rate: float, noise_multiplier: float, orders: tuple[float, ...]) -> np.ndarray:
    """RDP of one release at each order.

    Args:
        rate: share of the population that is drawn, in (0, 1].
        noise_multiplier: noise / sensitivity under replacement, > 0.
        orders: each > 1.
    """
    known = {1: 0.0}  # (order - 1) · RDP at whole orders
    cells = _cells(rate, noise_multiplier)

    def cumulant(order: int) -> float:
        if order not in known:
            known[order] = _cumulant(rate, noise_multiplier, order, *cells)
        return known[order]

    bounds = []
    for order in orders:
        low, high = floor(order), ceil(order)
        chord = cumulant(low) if low == high else (high - order) * cumulant(low) + (order - low) * cumulant(high)
        bounds.append(min(chord / (order - 1), order / (2 * noise_multiplier**2)))
    return np.array(bounds)


def _cells(rate: float, noise: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Beyond 1/2: v at each cell's far end, the mass of B in it, and the integral of Bv beyond the last."""
    if noise < SMALL_NOISE:
        return np.zeros(0), np.zeros(0), inf
    width = noise * min(1.0, noise) / CELLS
    x = 0.5 + np.arange(ceil((0.5 + 8 * noise) / width) + 1) * width
    v = rate * np.expm1((2 * x - 1) / (2 * noise**2))
    return v[1:], -np.diff(ndtr(-x / noise)), rate * float(ndtr((1 - x[-1]) / noise))


def _cumulant(rate: float, noise: float, order: int, v: np.ndarray, masses: np.ndarray, beyond: float) -> float:
    """(order - 1) · RDP, at most."""
    plain = order * (order - 1) / (2 * noise**2)
    if rate == 1:
        return plain
    k = np.arange(order + 1)
    logs = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1) + k * log(rate) + (order - k) * log1p(-rate)
    logs = logs + k * (k - 1) / (2 * noise**2) + log_ndtr((k - 0.5) / noise)
    p = float(ndtr(-0.5 / noise))
    grown = float(((np.expm1((1 - order) * np.log1p(v)) + (order - 1) * v) * masses).sum()) + (order - 1) * beyond
    second = p - (order - 1) * rate * (1 - 2 * p) + grown
    rest = min(second, p) + (1 - rate) * (1 - 2 * p)
    return min(float(np.logaddexp(np.logaddexp.reduce(logs), log(rest))), plain)
