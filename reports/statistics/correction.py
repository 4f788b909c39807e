r"""Words for many comparisons at once: none that the evidence does not support after Holm's correction.

A table, or the scoreboard, is a family of :math:`m` comparisons that are looked at together. Its p-values are adjusted
by Holm's step-down method, and a word is kept only where the adjusted one supports it; else it becomes "cannot tell":

.. math::
    \text{better, worse: } p^{Holm} \le \alpha, \qquad
    \text{equal: } p_{TOST}^{Holm} \le \alpha/2

so that the probability of any false direction in the family, and of any false "equal", is at most :math:`\alpha`.
:math:`p` is that of the paired t test, or of the sign test where the differences have no spread; :math:`p_{TOST}` the
larger of the two one-sided tests against the margin, which is at most :math:`\alpha/2` where the whole interval lies
within it (Schuirmann, 1987). One comparison alone keeps the word of its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoflip_secure.reports.statistics.paired import Paired, Verdict, holm
from autoflip_secure.reports.statistics.sample_size import seeds_to_settle


def corrected(pairs: Sequence[Paired | None]) -> list[Paired | None]:
    """The same comparisons as one family: with adjusted p-values, and words that survive them. None stays None."""
    family = sum(pair is not None and pair.difference.low is not None for pair in pairs)
    directions = holm([pair.p if pair else None for pair in pairs])
    equals = holm([pair.equal_p if pair else None for pair in pairs])
    ranks = holm([pair.wilcoxon_p if pair else None for pair in pairs])
    return [
        None if pair is None else _judged(replace(pair, t_holm=t, wilcoxon_holm=w, family=family), equal)
        for pair, t, w, equal in zip(pairs, directions, ranks, equals, strict=True)
    ]


def _judged(pair: Paired, equal: float | None) -> Paired:
    alpha = 1 - pair.level
    verdict = Verdict.CANNOT_TELL
    if pair.t_holm is not None and pair.t_holm <= alpha:
        verdict = Verdict.BETTER if pair.difference.mean > 0 else Verdict.WORSE
    elif equal is not None and equal <= alpha / 2:
        verdict = Verdict.EQUAL
    needed = None
    if verdict is Verdict.CANNOT_TELL:
        needed = seeds_to_settle(pair.differences, pair.margin, 1 - alpha / max(pair.family, 1))
    return replace(pair, verdict=verdict, seeds_needed=needed)
