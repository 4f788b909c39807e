"""What several releases together reveal: Rényi (RDP) and numerical (PRV) accounting.

RDP sums over releases at each order, with an allowance for rounding, and is converted by Balle et al. (2020). PRV
composes the privacy losses of dominating pairs (:mod:`.dominating_pairs`) numerically (Gopi et al. 2021;
:mod:`.prv`) and gives an upper bound: its estimate plus :data:`EPSILON_ERROR`, at ``delta`` minus
:data:`DELTA_ERROR` of it and minus all that rounding may add up to on any machine, where that is little
(:data:`ROUNDING_ERROR`). :mod:`.pld` has a third accountant, where dp-accounting is installed.
Accounting by the central limit theorem (GDP) is not offered: it under-estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from math import inf, isinf, log
from typing import NamedTuple

import numpy as np

from autoflip_secure.defenses.privacy import prv
from autoflip_secure.defenses.privacy.dominating_pairs import Direction
from autoflip_secure.defenses.privacy.subsampled_rdp import fixed_cohort_rdp, poisson_rdp
from autoflip_secure.records.privacy import Release
from autoflip_secure.runtime.threads import one_thread

WHOLE: tuple[float, ...] = (*(float(x) for x in range(2, 64)), 96.0, 128.0, 192.0, 256.0)
"""Orders that are quick to compute; what they give is a bound too, so noise chosen with them is enough."""

ORDERS: tuple[float, ...] = tuple(
    sorted({1.25, 1.5, 1.75, *(2 + x / 10 for x in range(80)), *(float(round(64 * 1.5**x)) for x in range(9)), *WHOLE})
)
"""All of :data:`WHOLE` too, so that what is reported never exceeds a target that noise was chosen for."""
_WHOLE = frozenset(WHOLE)

RENYI_RELATIVE, RENYI_ABSOLUTE = 1e-12, 1e-11
"""What rounding may add to (order - 1) · RDP of one step, which is the log of a sum of positive terms, or, at orders
that are not whole, of terms that alternate where they are below 1 and the sum is not: so nothing cancels. Each term is
the exponential of a few numbers that are below 1e4 where they cancel, and off by their rounding, 2e-12 at most. The
series ends when its terms are below e^-30, which is 1e-13."""
LEAST_NOISE = 1e-6
"""Below it there is no bound: squares would underflow."""
EPSILON_ERROR = 0.01
DELTA_ERROR = 1e-3  # of delta
ROUNDING_ERROR = 0.1
"""Of delta. Where the bound on rounding (:mod:`.prv`) is larger, PRV gives nothing: its number would still be
an upper bound, since delta is lessened by as much, but not a tight one."""
ROUGH = 8.0
"""How much coarser the mesh is for a first look at the direction that should not matter."""
LARGEST = 50.0
"""Where RDP says more than this, PRV is not asked: its mesh grows with epsilon, and the number means nothing."""


class Mechanism(NamedTuple):
    """A Gaussian mechanism and how its input is drawn."""

    noise_multiplier: float
    rate: float
    sampling: str


Count = tuple[tuple[Mechanism, int], ...]
"""Mechanisms, each with its number of steps, in one canonical order."""

Pairs = list[tuple[Mechanism, int, Direction]]
"""Dominating pairs (:mod:`autoflip_secure.defenses.privacy.dominating_pairs`), each with its number of steps."""


def counted(releases: Iterable[Release]) -> Count | None:
    """Equal mechanisms put together; None when one of them releases something without noise."""
    steps: dict[Mechanism, int] = {}
    for release in releases:
        if release.steps == 0:
            continue
        if release.mechanism == "none" or release.noise_multiplier <= 0:
            return None
        rate = 1.0 if release.sampling == "none" else release.rate
        sampling = "none" if rate == 1 and release.sampling != "fixed" else release.sampling
        mechanism = Mechanism(release.noise_multiplier, rate, sampling)
        steps[mechanism] = steps.get(mechanism, 0) + release.steps
    return tuple(sorted(steps.items()))


def by_client(releases: Sequence[Release]) -> dict[int | None, list[Release]]:
    """Everything that each client released, in the order of their ids; one entry with None where all are alike."""
    own = sorted({release.client for release in releases if release.client is not None})
    return {client: released_by(releases, client) for client in own or (None,)}


def released_by(releases: Sequence[Release], client: int | None) -> list[Release]:
    """What one client released by itself, or as everybody does."""
    return [release for release in releases if release.client in (client, None)]


@lru_cache(maxsize=100_000)
def rdp_curve(mechanism: Mechanism, orders: tuple[float, ...] = ORDERS) -> np.ndarray:
    """RDP of one step at each order, with what rounding may do added."""
    noise, rate = mechanism.noise_multiplier, mechanism.rate
    if noise < LEAST_NOISE:
        return np.full(len(orders), np.inf)
    if mechanism.sampling == "fixed":
        curve = fixed_cohort_rdp(rate, noise, orders)
    else:
        order = np.array(orders)
        whole = order == np.round(order)
        curve = np.empty(len(orders))
        curve[whole] = poisson_rdp(rate, noise, tuple(order[whole]))
        curve[~whole] = _between_whole_orders(rate, noise, tuple(order[~whole]))
    return (1 + RENYI_RELATIVE) * curve + RENYI_ABSOLUTE / (np.array(orders) - 1)


def _between_whole_orders(rate: float, noise: float, orders: tuple[float, ...]) -> np.ndarray:
    """By Opacus's series."""
    if not orders:
        return np.zeros(0)
    from opacus.accountants.analysis.rdp import compute_rdp

    with np.errstate(all="ignore"):  # it may overflow to infinity, which is a bound too
        curve = np.asarray(compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders), dtype=float)
    return np.where(np.isnan(curve), np.inf, curve)


def epsilon_of(curve: np.ndarray, delta: float, orders: tuple[float, ...] = ORDERS) -> float | None:
    """The best epsilon over all orders (Balle et al. 2020, Theorem 21); None where no order has a finite bound."""
    best = float(_epsilons(curve, delta, orders).min())
    return None if isinf(best) else max(best * (1 + RENYI_RELATIVE), 0.0)


def _epsilons(curve: np.ndarray, delta: float, orders: tuple[float, ...]) -> np.ndarray:
    order = np.array(orders)
    epsilons: np.ndarray = curve + np.log1p(-1 / order) - (log(delta) + np.log(order)) / (order - 1)
    return epsilons


@lru_cache(maxsize=100_000)
@one_thread()
def rdp_epsilon(count: Count, delta: float, orders: tuple[float, ...] = ORDERS) -> float | None:
    """Epsilon by RDP; 0 when nothing was released, None when no order has a finite bound.

    Every order gives a bound. Those that are not whole take most of the time, so of these only the ones next to the
    best of :data:`WHOLE` are asked.
    """
    if not count:
        return 0.0
    whole = tuple(order for order in orders if order in _WHOLE) or orders
    curve = _composed_curve(count, whole)
    low, high, at = 0.0, inf, int(_epsilons(curve, delta, whole).argmin())
    if np.isfinite(curve[at]):
        low, high = (whole[at - 1] if at else 0.0), (whole[at + 1] if at + 1 < len(whole) else inf)
    between = tuple(order for order in orders if low < order < high and order not in whole)
    bounds = [epsilon_of(curve, delta, whole)]
    if between:
        bounds.append(epsilon_of(_composed_curve(count, between), delta, between))
    return min((bound for bound in bounds if bound is not None), default=None)


def _composed_curve(count: Count, orders: tuple[float, ...]) -> np.ndarray:
    curve: np.ndarray = np.sum([steps * rdp_curve(mechanism, orders) for mechanism, steps in count], axis=0)
    return curve


@lru_cache(maxsize=10_000)
@one_thread()
def prv_epsilon(count: Count, delta: float) -> float | None:
    """Upper bound of epsilon by PRV; 0 when nothing was released.

    None where PRV has no proof, or where rounding may be too large a part of so small a delta.
    """
    if not count:
        return 0.0
    renyi = rdp_epsilon(count, delta)
    if renyi is None or renyi > LARGEST:
        return None
    return over_directions(count, partial(_prv_one_way, count, delta))


def _prv_one_way(count: Count, delta: float, pairs: Pairs, coarseness: float) -> float | None:
    epsilon_error, delta_error = coarseness * EPSILON_ERROR, DELTA_ERROR * delta
    grid = grid_for(count, epsilon_error, delta_error)
    if grid is None:
        return None
    try:
        composition = composed(pairs, grid)
    except MemoryError:
        return None
    if composition.delta_error > ROUNDING_ERROR * delta:
        return None
    epsilon = prv.epsilon_at(composition, delta - delta_error - composition.delta_error)
    return max(epsilon + epsilon_error + composition.epsilon_error, 0.0)


def over_directions(count: Count, bound: Callable[[Pairs, float], float | None]) -> float | None:
    """The largest bound over the directions in which a unit may come or go; None where one has none.

    Removing costs more than adding wherever we looked, but composed that is not proven. So adding is bounded roughly
    first, and finely where that does not tell.

    Args:
        count: what is released.
        bound: upper bound of epsilon of such pairs, on a mesh so many times coarser.
    """
    largest = 0.0
    for number, pairs in enumerate(directions(count)):
        rough = None if number == 0 else bound(pairs, ROUGH)
        if rough is None or rough > largest:
            fine = bound(pairs, 1.0)
            if fine is None:
                return None
            largest = max(largest, fine)
    return largest


def directions(count: Count) -> list[Pairs]:
    """The dominating pairs of all steps, for each direction in which a unit may come or go: removing it is first."""
    drawn = [(mechanism, steps) for mechanism, steps in count if mechanism.rate > 0]
    ways: tuple[Direction, ...] = ("remove", "add") if any(m.sampling == "poisson" for m, _ in drawn) else ("remove",)
    return [[(m, n, "replace" if m.sampling == "fixed" else way) for m, n in drawn] for way in ways]


def composed(pairs: Pairs, grid: prv.Grid) -> prv.Composition:
    """The privacy loss of such pairs by PRV."""
    return prv.compose([prv.Gaussian(m.noise_multiplier, m.rate, n, way) for m, n, way in pairs], grid)


def grid_for(
    count: Count, epsilon_error: float, delta_error: float, orders: tuple[float, ...] = ORDERS
) -> prv.Grid | None:
    """As long as Remark 5.6 of Gopi et al. asks, by RDP; None where RDP has no finite bound."""
    total = sum(steps for _, steps in count)
    tails = [rdp_epsilon(count, delta_error / 4, orders)]
    tails += [rdp_epsilon(((mechanism, 1),), delta_error / (8 * total), orders) for mechanism, _ in count]
    known = [tail for tail in tails if tail is not None]
    if len(known) < len(tails):
        return None
    return prv.grid_for(max(epsilon_error, *known) + 3, total, epsilon_error, delta_error)
