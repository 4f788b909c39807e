r"""How many seeds would settle a "cannot tell": the count at which a word comes out four times out of five.

With :math:`n` seeds a difference gets a word when its interval :math:`\bar d \pm h` leaves zero outside
(:math:`|\bar d| > h`) or lies within the margin (:math:`|\bar d| \le m - h`), where :math:`h = t_{n-1}\,s/\sqrt n`. If
the true mean and spread are what was seen, :math:`\bar d` is normal and :math:`s` a scaled chi, independent of it; so

.. math:: P(\text{word}) = 1 - E_s\,P\big(\max(0, m - h) < |\bar d| \le h\big)

The expectation over :math:`s` is a sum over equally likely quantiles of chi-squared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import special, stats

from autoflip_secure.records.t_interval import LEVEL
from autoflip_secure.reports.statistics.intervals import FLAT, MARGIN, Interval

POWER = 0.8
MOST = 1000  # more seeds than this are no plan
_NODES = 64
_FIRST = 50  # looked at before all the others: most answers are among them


def chance_of_a_word(mean: float, spread: float, margin: float, level: float = LEVEL, most: int = MOST) -> np.ndarray:
    """Probability that ``n`` seeds give a word, for n = 2 … ``most``; differences are normal (``mean``, ``spread``)."""
    half, error = _scales(level, most)
    return _chance(mean, spread * error, np.maximum(0.0, margin - spread * half), spread * half)


def _chance(mean: float, error: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """P(not inner < |d| <= outer) for d normal (``mean``, ``error``), averaged over the nodes of the spread."""
    upper = special.ndtr((outer - mean) / error) - special.ndtr((inner - mean) / error)
    lower = special.ndtr((-inner - mean) / error) - special.ndtr((-outer - mean) / error)
    return np.asarray(1.0 - np.where(outer > inner, upper + lower, 0.0).mean(axis=1))


def seeds_to_settle(differences: Sequence[float], margin: float = MARGIN, level: float = LEVEL) -> int | None:
    """Smallest number of seeds, above those there are, at which a word is likely; None: unknown, or over ``MOST``.

    A planning figure: it takes the mean and the spread of ``differences`` for the true ones, and a handful of seeds
    knows neither well. Differences that are all the same need enough seeds for a sign test.
    """
    return _smallest(differences, lambda mean, spread, most: chance_of_a_word(mean, spread, margin, level, most), level)


def seeds_to_decide(values: Sequence[float], support: float, refute: float, level: float = LEVEL) -> int | None:
    """The same for a mean whose interval settles it above ``support``, or below ``refute`` >= ``support``."""
    centre, gap = (support + refute) / 2, (refute - support) / 2

    def chance(mean: float, spread: float, most: int) -> np.ndarray:
        half, error = _scales(level, most)
        outer = np.maximum(0.0, spread * half - gap)
        return _chance(mean - centre, spread * error, np.zeros_like(outer), outer)

    return _smallest(values, chance, level)


def _smallest(values: Sequence[float], chance: Callable[[float, float, int], np.ndarray], level: float) -> int | None:
    data = np.asarray(values, dtype=float)
    if data.size < 2:
        return None
    mean, spread = float(data.mean()), float(data.std(ddof=1))
    if spread < FLAT:
        return unanimous(level) if data.size < unanimous(level) else None
    for most in (_FIRST, MOST):
        enough = chance(mean, spread, most) >= POWER
        enough[: data.size - 1] = False  # n = 2 … data.size did not settle it
        if bool(enough.any()):
            return int(np.argmax(enough)) + 2
    return None


def seeds_for_width(values: Sequence[float], half: float, level: float = LEVEL) -> int | None:
    """Smallest number of seeds at which the interval of their mean is at most ``half`` wide to either side.

    A planning figure like the others: the spread of ``values`` is taken for the true one. None: one value, whose spread
    is unknown, or more than ``MOST``.

    >>> seeds_for_width([0.0, 1.0, 2.0], 1.0), seeds_for_width([1.0, 1.0], 0.1), seeds_for_width([1.0], 0.1)
    (7, 2, None)
    """
    if len(values) < 2:
        return None
    spread = float(np.std(np.asarray(values, dtype=float), ddof=1))
    counts = np.arange(2, MOST + 1)
    enough = stats.t.ppf((1 + level) / 2, counts - 1) * spread / np.sqrt(counts) <= half
    return int(counts[np.argmax(enough)]) if bool(enough.any()) else None


def unanimous(level: float = LEVEL) -> int:
    """Seeds that must all point the same way before a two-sided sign test believes them: smallest n, 2 / 2^n <= alpha.

    >>> unanimous(0.95)
    6
    """
    return int(np.ceil(np.log2(2 / (1 - level)) - 1e-9))


def few_alike(interval: Interval, level: float = LEVEL) -> bool:
    """Whether too few seeds agree exactly: a handful that happen to be equal support no direction."""
    alike = interval.low is not None and interval.high is not None and interval.high - interval.low < FLAT
    return alike and interval.n < unanimous(level)


def stuck(values: Sequence[float], level: float = LEVEL) -> bool:
    """Whether too few seeds all came to one value, as broken runs do, and those at a ceiling.

    That another algorithm is there too at each of them is no sign that the two are alike: one more seed may part them.
    Equal accuracies that differ from seed to seed are one.
    """
    return 1 < len(values) < unanimous(level) and float(np.std(np.asarray(values, dtype=float))) < FLAT


@lru_cache(maxsize=8)
def _scales(level: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """For a spread of one: half widths at the quantiles of s (counts, nodes), and standard errors (counts, 1)."""
    counts = np.arange(2, most + 1)[:, None]
    quantiles = (np.arange(_NODES) + 0.5) / _NODES
    s = np.sqrt(stats.chi2.ppf(quantiles, counts - 1) / (counts - 1))
    error = 1.0 / np.sqrt(counts)
    return stats.t.ppf((1 + level) / 2, counts - 1) * s * error, error
