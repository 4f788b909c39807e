r"""Everything that the accountants prove of some releases: delta at every epsilon, not at one.

The ledger prints one pair. The pairs of all epsilons bound the trade-off between an attacker's two errors (Dong, Roth
and Su 2022), which is what an audit tests. Releases that are not sampled are one Gaussian mechanism with
:math:`\mu^2 = \sum 1/\sigma^2`, exactly (Balle and Wang 2018):

.. math:: \delta(\epsilon) = \Phi(\mu/2 - \epsilon/\mu) - e^\epsilon \Phi(-\mu/2 - \epsilon/\mu)

Sampled ones have PRV, composed in each direction in which a unit may come or go
(:func:`~.accountants.directions`), of which the larger delta counts, and RDP (Canonne, Kamath and Steinke 2020,
Proposition 12). The smaller of the two counts.
"""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr, ndtr

from autoflip_secure.defenses.privacy import prv
from autoflip_secure.defenses.privacy.accountants import (
    LARGEST,
    WHOLE,
    Count,
    composed,
    directions,
    grid_for,
    rdp_curve,
    rdp_epsilon,
)
from autoflip_secure.runtime.threads import one_thread

POINTS = 120
EPSILON_ERROR = 0.003  # of PRV's mesh
LEAST_DELTA = 1e-8
"""Where the pairs end; smaller deltas change no verdict of an audit."""

Profile = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]


@lru_cache(maxsize=1000)
@one_thread()
def profile(count: Count, *, quick: bool = False) -> Profile:
    """(epsilons, deltas), all proven at once, whichever of two neighbours is the true one.

    Where nothing is released delta is 0 at epsilon 0. ``quick``: by RDP alone, at the same epsilons; no delta is less.
    """
    if not count:
        return np.zeros(1), np.zeros(1)
    if all(mechanism.sampling == "none" for mechanism, _ in count):
        return gaussian(sqrt(sum(steps / mechanism.noise_multiplier**2 for mechanism, steps in count)))
    end = rdp_epsilon(count, LEAST_DELTA, WHOLE)
    epsilons = _spread(1.0 if end is None else max(end, 0.01))
    deltas = _renyi(count, epsilons)
    if not quick and end is not None and end <= LARGEST:
        deltas = np.minimum(deltas, _numerical(count, epsilons))
    return epsilons, deltas


def gaussian(mu: float) -> Profile:
    """Of the Gaussian mechanism whose means are ``mu`` standard deviations apart."""
    epsilons = _spread(mu**2 / 2 + 6 * mu)
    first = ndtr(mu / 2 - epsilons / mu)
    return epsilons, np.maximum(first - np.exp(epsilons + log_ndtr(-mu / 2 - epsilons / mu)), 0.0)


def _spread(end: float) -> np.ndarray:
    """From 0 to ``end``, denser at the beginning, where the pairs bend most."""
    spread: np.ndarray = end * np.linspace(0, 1, POINTS) ** 2
    return spread


def _renyi(count: Count, epsilons: np.ndarray) -> np.ndarray:
    orders = np.array(WHOLE)
    curve = np.sum([steps * rdp_curve(mechanism, WHOLE) for mechanism, steps in count], axis=0)
    usable = np.isfinite(curve)
    if not usable.any():
        return np.ones_like(epsilons)
    orders, curve = orders[usable], curve[usable]
    logs = (orders - 1) * (curve - epsilons[:, None] + np.log1p(-1 / orders)) - np.log(orders)
    least: np.ndarray = np.exp(np.minimum(logs.min(1), 0.0))
    return least


def _numerical(count: Count, epsilons: np.ndarray) -> np.ndarray:
    """By PRV on one mesh, whichever direction is dearer at each epsilon, with all that rounding may add."""
    grid = grid_for(count, EPSILON_ERROR, LEAST_DELTA, WHOLE)
    if grid is None:
        return np.ones_like(epsilons)
    dearest = np.zeros_like(epsilons)
    for pairs in directions(count):
        found = composed(pairs, grid)
        deltas = prv.deltas_at(found, epsilons - EPSILON_ERROR - found.epsilon_error)
        dearest = np.maximum(dearest, deltas + LEAST_DELTA + found.delta_error)
    least: np.ndarray = np.minimum(dearest, 1.0)
    return least
