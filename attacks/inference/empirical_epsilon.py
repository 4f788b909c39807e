r"""What an attacker's guesses refute. Nothing is assumed of the mechanism; canaries of one run may depend on each
other.

A claim is a trade-off curve: whatever a mechanism puts out, :math:`P[A \mid \text{in}] \le F(P[A \mid \text{out}])`,
and the same with in and out exchanged, with F rising and concave. Every canary is in or out by a fair coin of its own.

*Many runs.* By one pair (epsilon, delta) of the curve, a guess is right with probability at most
:math:`(e^\epsilon + \delta) / (1 + e^\epsilon)`; let A be the least of these. So the share :math:`X_r \in [0, 1]` of
the right guesses in run r has a mean of at most A, whatever happened in the runs before, and

.. math:: W = \frac1J \sum_{j=1}^J \prod_r \Big(1 + \frac{j}{J} \frac{X_r - A}{A}\Big)

has a mean of at most 1: it is what bets of fixed shares on "more than A" make of 1 (Waudby-Smith and Ramdas 2024). By
Markov the curve is refuted with confidence :math:`1 - \tau` where :math:`W \ge 1 / \tau`. Many canaries a run make X
vary little, which this uses without asking why.

*One run* (Mahloujifar, Melis and Chaudhuri 2024). Of m canaries g are guessed and v guesses are right. For one canary
j, and N right guesses in all, the event "at least i - 1 of the other guesses are right" does not depend on its coin, so

.. math:: P[j \text{ right}, N \ge i] \le F(P[j \text{ wrong}, N \ge i - 1])

and, on average over all canaries, :math:`E[N; N \ge i] \le m F(E[g - N; N \ge i - 1] / m)`. With the tails
:math:`t_i = P[N \ge i]` and :math:`E[N; N \ge i] = i t_i + \sum_{l > i} t_l` this is

.. math::
    t_{i-1} \ge \frac{1}{g - i + 1} \Big( m F^{-1}\big(\tfrac{i t_i + \sum_{l > i} t_l}{m}\big) + \sum_{l \ge i} t_l
    \Big)

whose right side grows with every tail. So if :math:`P[N \ge v]` were more than :math:`\tau`, then :math:`t_0` would be
more than what the recursion gives from :math:`t_v = \tau` down; where that exceeds 1 the curve is refuted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

BETS = 20
"""J, the number of stakes; the largest is everything."""
_LARGE = 600.0  # epsilon that counts as this: e to its power is a number yet


@dataclass(frozen=True, eq=False)
class Curve:
    """Pairs (epsilon, delta), all of which are claimed at once, for both directions of the neighbours."""

    epsilons: Float[np.ndarray, " points"]
    deltas: Float[np.ndarray, " points"]

    @cached_property
    def _lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Slopes and intercepts of the lines below the inverse, from P ≤ e^ε Q + δ and 1 - Q ≤ e^ε (1 - P) + δ."""
        grown = np.exp(np.minimum(self.epsilons, _LARGE))
        slopes = np.concatenate([1 / grown, grown, [0.0]])
        return slopes, np.concatenate([-self.deltas / grown, 1 - self.deltas - grown, [0.0]])

    def least(self, probability: float) -> float:
        """Smallest probability, with the canary out, of what has ``probability`` with the canary in."""
        slopes, intercepts = self._lines
        return float((slopes * probability + intercepts).max())

    @property
    def accuracy(self) -> float:
        """How often a guess is right at most."""
        odds = np.exp(-np.minimum(self.epsilons, _LARGE))
        return float(np.minimum((1 + self.deltas * odds) / (1 + odds), 1.0).min())


def refuted_by_runs(curve: Curve, shares: Float[np.ndarray, " runs"], confidence: float = 0.95) -> bool:
    """Whether no mechanism with this curve has such shares of right guesses, but for a chance of 1 - ``confidence``."""
    most = curve.accuracy
    bets = np.arange(1, BETS + 1)[:, None] / BETS
    with np.errstate(divide="ignore"):  # everything was staked, and lost
        gains = np.log(np.maximum(1 + bets * (shares - most) / most, 0.0)).sum(1)
    return float(np.logaddexp.reduce(gains)) - log(BETS) >= -log(1 - confidence)


def refuted(curve: Curve, canaries: int, guesses: int, right: int, confidence: float = 0.95) -> bool:
    """Whether no mechanism with this curve is so often right in one run, but for a chance of 1 - ``confidence``.

    Raises:
        ValueError: more guesses are right than there are.
    """
    if right > guesses:
        raise ValueError(f"right = {right}: more than guesses = {guesses}")
    tail, above = 1 - confidence, 0.0
    for i in range(right, 0, -1):
        needed = curve.least((i * tail + above) / canaries)
        above += tail
        tail = max(tail, (canaries * needed + above) / (guesses - i + 1))
        if tail > 1:
            return True
    return False


def shares_right(
    scores: Float[Tensor, "runs canaries"], included: Bool[Tensor, "runs canaries"]
) -> Float[np.ndarray, " runs"]:
    """Share of right guesses in every run, all canaries guessed: in where the score is above a threshold.

    The threshold of a run is the one that would have been best in the runs before it, so that the attacker need not
    know the size of what it looks for; in the first it is the median of what it sees.
    """
    values, truth = scores.double().numpy(), included.numpy()
    found = np.empty(len(values))
    for run, (seen, coins) in enumerate(zip(values, truth, strict=True)):
        threshold = _best(values[:run].ravel(), truth[:run].ravel()) if run else float(np.median(seen))
        found[run] = float(((seen > threshold) == coins).mean())
    return found


def _best(scores: np.ndarray, included: np.ndarray) -> float:
    """Threshold above which most are in and below which most are out: halfway between two scores."""
    order = np.argsort(scores, kind="stable")
    ordered, inside = scores[order], included[order]
    right = np.cumsum(np.where(inside, -1, 1))  # up to here they are guessed out
    place = int(right.argmax())
    return float((ordered[place] + ordered[min(place + 1, len(ordered) - 1)]) / 2)


def guess(scores: Float[Tensor, " canaries"], included: Bool[Tensor, " canaries"], each: int) -> tuple[int, int]:
    """(guesses, right ones): the ``each`` highest scores are guessed in, as many lowest out; no opinion on the rest."""
    order = scores.argsort()
    low, high = order[:each], order[len(order) - each :]
    return 2 * each, int(included[high].sum()) + int((~included[low]).sum())
