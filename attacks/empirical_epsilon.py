r"""Lower bounds on epsilon from what an attacker achieved.

*Clopper-Pearson*: over many runs with and without one canary, (epsilon, delta)-DP requires
:math:`\mathrm{TPR} \le e^\epsilon \mathrm{FPR} + \delta` and the same with both complements; with exact binomial bounds
of both rates, each at half the error, :math:`\epsilon \ge \log((\underline{\mathrm{TPR}} - \delta)/
\overline{\mathrm{FPR}})`.

*One run* (Steinke, Nasr, Jagielski 2023, Theorem 5.2): of m canaries, each in or out by a fair coin, r are guessed, and
v guesses are right. Under (epsilon, delta)-DP, with :math:`W \sim \mathrm{Bin}(r, e^\epsilon / (1 + e^\epsilon))`,

.. math::
    P[\text{right} \ge v] \le P[W \ge v] + 2 m \delta \max_{1 \le i \le v} \tfrac1i P[v - i \le W < v]

and the bound is the largest epsilon that this rejects.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, log

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

MOST = 50.0


def clopper_pearson(
    true_positives: int, positives: int, false_positives: int, negatives: int, delta: float, confidence: float = 0.95
) -> float:
    """Lower bound on epsilon (0 if nothing is shown), from runs with (positives) and without the canary."""
    # two bounds, each one-sided at half of 1 - confidence: a two-sided interval at `confidence`
    tpr = _interval(true_positives, positives, confidence)
    fpr = _interval(false_positives, negatives, confidence)
    found = 0.0
    for more, less in ((tpr[0], fpr[1]), (1 - fpr[1], 1 - tpr[0])):
        if more > delta and less > 0:
            found = max(found, log((more - delta) / less))
    return found


@lru_cache(maxsize=10_000)
def _interval(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.low), float(interval.high)


def one_run_p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Probability of so many right guesses, at most, if the mechanism were (epsilon, delta)-DP."""
    from scipy.stats import binom

    chance = 1 / (1 + exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, chance))
    below = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, chance))
    steepest = float((below / np.arange(1, right + 1)).max()) if right else 0.0
    return min(1.0, tail + 2 * canaries * delta * steepest)


def one_run(canaries: int, guesses: int, right: int, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon that is rejected, 0 if none is."""
    if guesses == 0 or one_run_p_value(canaries, guesses, right, 0.0, delta) > 1 - confidence:
        return 0.0
    low, high = 0.0, MOST
    for _ in range(60):
        middle = (low + high) / 2
        rejected = one_run_p_value(canaries, guesses, right, middle, delta) <= 1 - confidence
        low, high = (middle, high) if rejected else (low, middle)
    return low


def guess(scores: Float[Tensor, " canaries"], included: Bool[Tensor, " canaries"], each: int) -> tuple[int, int]:
    """(guesses, right ones): the ``each`` highest scores are guessed in, as many lowest out; no opinion on the rest."""
    order = scores.argsort()
    low, high = order[:each], order[len(order) - each :]
    return 2 * each, int(included[high].sum()) + int((~included[low]).sum())
