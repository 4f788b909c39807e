r"""Numerical composition of privacy loss (PRV; Gopi, Lee and Wutschitz 2021), with a bound on what rounding does to it.

A step has the privacy loss :math:`Y` of its dominating pair (:mod:`.dominating_pairs`); of the Gaussian
mechanism with noise :math:`\sigma`, joined with probability :math:`q`, in the direction ``remove`` it is
:math:`Y = \log(1 - q + q e^z)` with :math:`z = (2x - 1) / 2\sigma^2` and
:math:`x \sim (1-q) N(0, \sigma^2) + q N(1, \sigma^2)`. :math:`T` steps have the sum of their losses and
:math:`\delta(\epsilon) = E(1 - e^{\epsilon - \sum Y})_+`. Each loss is clamped to :math:`[-L, L]`, rounded to a grid of
:math:`n = 2^k` points :math:`h` apart, shifted to keep its mean, and summed modulo :math:`n h` by Fourier transforms
:math:`X`. In exact arithmetic :math:`\delta(\epsilon + \epsilon_{err}) \le \tilde\delta(\epsilon) + \delta_{err}` with
:math:`h = \epsilon_{err} / \sqrt{T/2 \log(12 / \delta_{err})}` (Theorem 5.5 of that paper).

Rounding, on any machine with IEEE double (unit roundoff :math:`u = 2^{-53}`) whose exp and log are right to
:math:`2u` and whose normal distribution function to :math:`4u`, absolutely:

1. **Losses.** Edges of cells and grid points are off by less than :math:`10u(1 + L)`, which also widens the cells in
   Hoeffding's inequality: :math:`100u(1 + L)` a step in all. The mean is off by :math:`2nu\,E(|Y| + h)`, a sum over the
   grid, by :math:`2a(1 + L)` because of 2., and by what is clamped. All of it is added to epsilon.
2. **Distribution functions** at the cells' edges are off by :math:`a = (16 + 4/\sigma) u`. Exchanging one step's
   distribution for the computed one changes the expectation of a function of it that grows from 0 to 1 and falls back
   once, where the sum wraps around: at most :math:`2a` a step (summation by parts).
3. **Transforms.** :math:`|\hat X_k - X_k| \le \rho = (1 + \eta)^{\log_2 n} - 1` for masses that sum to 1: the proof of
   Theorem 24.2 in Higham, *Accuracy and Stability of Numerical Algorithms*, entry by entry. Each of the
   :math:`\log_2 n` factors has entries of modulus at most 1 and is applied with a relative error :math:`\eta` of every
   entry, and the product of the factors' moduli is the matrix of ones. :math:`\eta = 5u` covers a twiddle factor
   that is off by :math:`u`, a complex product (:math:`\sqrt 5 u`; Brent, Percival and Zimmermann 2007) and a sum.
4. **Powers**, by repeated squaring, add :math:`\sqrt 5 u` a step. With 3., for :math:`r_j = |\hat X_j| + \rho` in
   each frequency, the product of all steps is off by at most
   :math:`E_k = \prod_j r_j^{T_j} \sum_j T_j (\rho + \sqrt 5 u) / r_j`.
5. **Back.** Weights in [0, 1] times what is wrong in the masses: at most :math:`\|E\|_2` from 4. (Parseval and
   Cauchy-Schwarz), and :math:`\rho \sqrt{2n} \|\hat p\|_2` from the inverse transform, by Theorem 24.2 itself.
   Negative masses become 0, which only brings them nearer to the true ones.

Delta is off by at most :math:`B = 2 \sum_j T_j a_j + \|E\|_2 + \rho \sqrt{2n} \|\hat p\|_2`: about
:math:`5 u T \log_2 n` times the square root of the grid's length over the width of the summed losses.
What epsilon is read from is delta less :math:`B`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, expm1, inf, log, log1p, log2, pi, sqrt
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, rfft

from autoflip_secure.defenses.privacy.dominating_pairs import Direction, cdf

UNIT = 2.0**-53
PRODUCT = sqrt(5) * UNIT
"""Relative error of a complex product."""
SECOND_ORDER = 1.01
"""Times a bound, for products of rounding errors and for the rounding of the bound itself."""


class Gaussian(NamedTuple):
    """The Gaussian mechanism, joined with probability ``rate`` in (0, 1], ``steps`` times."""

    noise_multiplier: float
    rate: float
    steps: int
    direction: Direction = "remove"


class Grid(NamedTuple):
    """Privacy losses :math:`(i - n/2 + 1) h`, i from 0 to n - 1; n a power of two."""

    spacing: float
    size: int

    @property
    def points(self) -> np.ndarray:
        """Every loss of the grid, 0 among them."""
        return (np.arange(self.size) - (self.size // 2 - 1)) * self.spacing

    @property
    def edges(self) -> np.ndarray:
        """Between one point and the next."""
        return (np.arange(self.size - 1) - (self.size // 2 - 1.5)) * self.spacing

    @property
    def ends(self) -> tuple[float, float]:
        """First and last point."""
        return -(self.size // 2 - 1) * self.spacing, self.size // 2 * self.spacing

    @property
    def transform_error(self) -> float:
        r""":math:`\rho`: of each frequency, for masses that sum to 1."""
        return expm1(log2(self.size) * log1p(5 * UNIT))


class Losses(NamedTuple):
    """Privacy loss of one step on a grid."""

    masses: np.ndarray
    shift: float  # of the grid, so that the mean is that of the mechanism
    epsilon_error: float
    cdf_error: float


class Composition(NamedTuple):
    """Privacy loss of all steps together."""

    points: np.ndarray
    masses: np.ndarray
    epsilon_error: float  # by rounding, of the points
    delta_error: float  # by rounding, of any sum of masses with weights in [0, 1]


def grid_for(reach: float, steps: int, epsilon_error: float, delta_error: float) -> Grid:
    """Grid from -reach to reach at least."""
    spacing = epsilon_error / sqrt(steps / 2 * log(12 / delta_error))
    return Grid(spacing, 2 ** ceil(log2(2 * ceil(reach / spacing) + 2)))


def mean(mechanism: Gaussian, grid: Grid) -> tuple[float, float]:
    r"""Mean of the loss, clamped to the grid, and a bound on its error and that of the same mean taken on the grid.

    By the trapezoidal rule in x, whose error shrinks exponentially with the spacing (Trefethen and Weideman 2014,
    Theorem 5.1): the loss is analytic where the imaginary part of x is below pi · noise². Here it is far below
    rounding, except where clamping bends the loss: there it is less than what lies outside.

    For ``replace`` the integral of :math:`g = \ell (A - B)` begins at x = 1/2, and the rule is off by at most
    spacing² / 8 times :math:`\int |g''|`. With :math:`\ell \le (x - 1/2) / \sigma^2`, :math:`\ell' \le \sigma^{-2}`,
    :math:`\ell'' \le \sigma^{-4} / 4` and :math:`A - B = q (N(1) - N(0))` that integral is below
    :math:`q (8 \sigma^{-3} + 2 \sigma^{-4})`.
    """
    noise, rate, direction = mechanism.noise_multiplier, mechanism.rate, mechanism.direction
    spacing = noise * min(1.0, noise) / (8 if direction != "replace" else 2**14)
    start = -10 * noise if direction != "replace" else 0.5
    x = np.arange(ceil((10 * noise + 1 - start) / spacing) + 1) * spacing + start
    z = (2 * x - 1) / (2 * noise**2)
    loss = z
    if rate < 1:
        low, high = np.minimum(z, 0), np.maximum(z, 0)
        loss = np.where(z > 0, high + np.log(rate + (1 - rate) * np.exp(-high)), np.log1p(rate * np.expm1(low)))
    without = np.exp(-((x / noise) ** 2) / 2) * (spacing / (noise * sqrt(2 * pi)))
    drawn = np.exp(-(((x - 1) / noise) ** 2) / 2) * (spacing / (noise * sqrt(2 * pi)))
    parts = []  # a loss, and the probability that it has
    if direction != "add":
        parts.append((loss, (1 - rate) * without + rate * drawn))
    if direction != "remove":
        parts.append((-loss, without))
    weighted = np.concatenate([np.clip(one, *grid.ends) * probability for one, probability in parts])
    beyond = np.concatenate([(one < grid.ends[0]) | (one > grid.ends[1]) for one, _ in parts])
    error = 2 * float(np.abs(weighted[beyond]).sum())
    error += 2 * (grid.size + len(weighted)) * UNIT * (float(np.abs(weighted).sum()) + grid.spacing)
    if direction == "replace":
        error += spacing**2 / 8 * rate * (8 / noise**3 + 2 / noise**4)
    return float(weighted.sum()), error


def losses_of(mechanism: Gaussian, grid: Grid) -> Losses:
    """The loss of one step, rounded to the grid."""
    noise, rate, direction = mechanism.noise_multiplier, mechanism.rate, mechanism.direction
    edges = np.maximum.accumulate(cdf(noise, rate, direction, grid.edges))
    masses = np.diff(edges, prepend=0.0, append=1.0)
    true, mean_error = mean(mechanism, grid)
    shift = true - float((grid.points * masses).sum())  # not a dot product: its rounding changes with threads
    cdf_error = (16 + 4 / noise) * UNIT
    return Losses(masses, shift, mean_error + (1 + grid.ends[1]) * (100 * UNIT + 2 * cdf_error), cdf_error)


def power(base: np.ndarray, exponent: int) -> np.ndarray:
    """By repeated squaring, so that its rounding is known: ``exponent - 1`` products deep."""
    result = None
    while True:
        if exponent % 2:
            result = base if result is None else result * base
        exponent //= 2
        if not exponent:
            assert result is not None
            return result
        base = base * base


def compose(mechanisms: Sequence[Gaussian], grid: Grid) -> Composition:
    """The sum of independent losses, with bounds on its rounding."""
    middle, rho = grid.size // 2 - 1, grid.transform_error
    product = np.ones(grid.size // 2 + 1, dtype=complex)
    grown, slope = np.ones(grid.size // 2 + 1), np.zeros(grid.size // 2 + 1)  # the product and the sum in E_k
    shift = epsilon_error = delta_error = 0.0
    with np.errstate(under="ignore"):
        for mechanism in mechanisms:
            one = losses_of(mechanism, grid)
            transform = rfft(np.roll(one.masses, -middle))  # a loss of 0 comes first
            modulus = np.abs(transform) + rho
            product *= power(transform, mechanism.steps)
            grown *= modulus**mechanism.steps
            slope += mechanism.steps * (rho + PRODUCT) / modulus
            shift += mechanism.steps * one.shift
            epsilon_error += mechanism.steps * one.epsilon_error
            delta_error += mechanism.steps * 2 * one.cdf_error
        masses = np.roll(irfft(product, grid.size), middle)
        delta_error += sqrt(2 * float(((grown * slope) ** 2).sum()))  # half of the spectrum is stored
        delta_error += rho * sqrt(2 * grid.size * float((masses**2).sum()))
    return Composition(
        grid.points + shift, np.maximum(masses, 0.0), SECOND_ORDER * epsilon_error, SECOND_ORDER * delta_error
    )


def epsilon_at(composition: Composition, delta: float) -> float:
    r"""The least epsilon with :math:`\sum_i p_i (1 - e^{\epsilon - t_i})_+ \le \delta`.

    Each sum over the points from one on is at most the whole, so epsilon is the largest that any of them asks for.
    Sums of n numbers that are not negative have a relative error of nu at most: the factor errs on the safe side.
    """
    points, masses = composition.points, composition.masses
    tail = np.cumsum(masses[::-1])
    with np.errstate(over="ignore", invalid="ignore"):
        tilted = np.cumsum((masses * np.exp(-points))[::-1])
    asked = tail * (1 + 8 * len(points) * UNIT) - delta
    positive = asked > 0
    return float(np.log((asked[positive] / tilted[positive]).max())) if positive.any() else -inf


def deltas_at(composition: Composition, epsilons: np.ndarray) -> np.ndarray:
    r"""Delta at each epsilon, at least: :math:`\sum_i p_i (1 - e^{\epsilon - t_i})_+`, and what its sums may round off.

    Sums of n numbers that are not negative have a relative error of nu at most, and the whole is 1.
    """
    points, masses = composition.points, composition.masses
    tail = np.append(np.cumsum(masses[::-1])[::-1], 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        tilted = np.append(np.cumsum((masses * np.exp(-points))[::-1])[::-1], 0.0)
    first = np.searchsorted(points, epsilons)
    grown = np.exp(np.minimum(epsilons, points[-1]))  # beyond the last point there is nothing
    deltas: np.ndarray = np.maximum(tail[first] - grown * tilted[first], 0.0) + 8 * len(points) * UNIT
    return deltas
