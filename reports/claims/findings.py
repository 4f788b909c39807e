r"""What a claim of the paper is worth here: one interval per place it was tested, one answer for all of them.

A claim says that a quantity :math:`q` (a difference to FedAvg, a saving, a rate) is above a bound. With the mean over
seeds of :math:`q` and its interval :math:`[l, h]`:

.. math:: \text{supported: } l \ge \theta_+ \qquad \text{refuted: } h' < \theta_- \qquad \text{else open}

where :math:`h'` is the end of the interval at level :math:`1 - \alpha/m` for :math:`m` places, since one refuted place
refutes a general claim. It holds when every place supports it, does not hold when one refutes it.

A page shows many claims. The p-value of an answer is the smallest :math:`\alpha` at which it would still be given: with
two-sided :math:`p_+` and :math:`p_-` of Student's t test against the bounds,

.. math:: p = \max_{places} p_+ \text{ where it holds}, \qquad p = m \min_{places} p_- \text{ where it does not}

Of all claims that were tested together they are adjusted by Holm's method (:func:`judged_together`); an answer that
does not survive that is kept, and marked as one of its own claim alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from scipy import stats

from autoflip_secure.records.t_interval import LEVEL
from autoflip_secure.reports.statistics.intervals import FLAT, MARGIN, UNDECIDED, Interval, mean_interval
from autoflip_secure.reports.statistics.paired import holm
from autoflip_secure.reports.statistics.sample_size import few_alike, seeds_to_decide, stuck

BOTH = "Add the algorithms fedavg and autoflip, without attack, at the same seeds."  # what most claims need


class Answer(Enum):
    """What this sweep says about a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = UNDECIDED
    NOT_TESTED = "not tested here"


DECIDED = (Answer.HOLDS, Answer.DOES_NOT_HOLD)
ALONE = " (judged alone)"  # behind an answer that does not survive correction for all claims


@dataclass(frozen=True)
class Bound:
    """When a quantity supports and when it refutes a claim; ``strict`` lets the refutation win where both are true.

    ``counted``: the quantity is counted, not sampled (bytes, operations), so seeds that agree exactly are no accident.
    """

    support: float
    refute: float
    strict: bool = False
    counted: bool = False


NOT_LOWER = Bound(-MARGIN, 0.0, strict=True)  # measurably lower refutes; supported when any loss is within the margin
AT_LEVEL = Bound(-MARGIN, -MARGIN)  # lower by more than the margin refutes


def above(least: float) -> Bound:
    """Better at all supports; certainly not better by ``least`` refutes."""
    return Bound(0.0, least)


def over(least: float) -> Bound:
    """A counted quantity: more than ``least`` supports, and ``least`` itself refutes."""
    least = math.nextafter(least, math.inf)
    return Bound(least, least, counted=True)


@dataclass(frozen=True)
class Evidence:
    """One place where a claim was tested. ``text`` carries the numbers."""

    where: str
    text: str
    interval: Interval
    answer: Answer
    seeds_needed: int | None = None
    simultaneous: Interval | None = None  # for all places where the claim was tested together (Bonferroni)
    bound: Bound | None = None  # what it was judged against
    values: tuple[float, ...] = ()  # one per seed, in the order of seeds
    p: float = 1.0  # the smallest alpha at which the answer would be given, corrected for the places; 1: none is

    def saying(self, text: str) -> Evidence:
        """The same evidence with its numbers in words."""
        return replace(self, text=text)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, as we read it, and what this sweep says about it."""

    slug: str
    says: str  # the claim
    measured: str  # what was compared, and the bounds
    answer: Answer
    evidence: tuple[Evidence, ...] = ()
    needs: str = ""  # what the sweep would have to contain, when it was not tested
    notes: tuple[str, ...] = ()
    corrected: float | None = None  # p-value among all claims that were tested together; None: not asked, or not tested

    @property
    def p(self) -> float:
        """The smallest alpha at which the answer would be given; 1 where there is none."""
        alike = [e.p for e in self.evidence if e.answer is self.answer]
        if self.answer is Answer.HOLDS:
            return max(alike, default=1.0)
        return min(alike, default=1.0) if self.answer is Answer.DOES_NOT_HOLD else 1.0

    @property
    def lost(self) -> bool:
        """Whether it is answered by its own evidence, and not any more among all claims that were tested together."""
        return self.corrected is not None and self.answer in DECIDED and self.corrected > 1 - LEVEL

    @property
    def told(self) -> str:
        """The answer in words, with what correction took away."""
        return f"{self.answer.value}{ALONE if self.lost else ''}"


def judged_together(claims: Sequence[Claim]) -> list[Claim]:
    """The same claims, with p-values that are corrected for all of them that were tested (Holm)."""
    adjusted = holm([claim.p if claim.evidence else None for claim in claims])
    return [replace(claim, corrected=p) for claim, p in zip(claims, adjusted, strict=True)]


def weigh(
    where: str, values: Mapping[int, float], bound: Bound, places: int = 1, levels: Iterable[float] = ()
) -> Evidence:
    """Judge ``values`` (seed -> quantity) against ``bound``, knowing that the claim is tested in ``places`` places.

    ``levels``: of differences, what one side came to; a handful of seeds that is :func:`.stuck` there shows nothing.
    """
    data = [values[seed] for seed in sorted(values)]
    interval = mean_interval(data)
    wider = mean_interval(data, 1 - (1 - LEVEL) / places)
    answer = _answer(interval, wider, bound, unsure=stuck([*levels]))
    needed = None
    if answer is Answer.CANNOT_TELL and len(data) > 1:
        needed = seeds_to_decide(data, bound.support, bound.refute)
    p = _p(data, interval, bound, answer, places)
    return Evidence(where, "", interval, answer, needed, wider, bound, tuple(data), p)


def _p(data: Sequence[float], interval: Interval, bound: Bound, answer: Answer, places: int) -> float:
    """The smallest alpha at which ``answer`` would be given."""
    if answer not in DECIDED:
        return 1.0
    if interval.high is not None and interval.low is not None and interval.high - interval.low < FLAT:
        # counted, or equal runs, which are no accident; else all seeds agree on a direction
        sure = bound.counted or abs(interval.mean) < FLAT
        return 0.0 if sure else 2 * 0.5 ** len(data)
    beyond = interval.mean - bound.support if answer is Answer.HOLDS else bound.refute - interval.mean
    error = float(stats.sem(data))
    p = 2 * float(stats.t.sf(beyond / error, len(data) - 1))
    return min(1.0, p if answer is Answer.HOLDS else places * p)


def _answer(interval: Interval, wider: Interval, bound: Bound, *, unsure: bool) -> Answer:
    if interval.low is None or interval.high is None or wider.high is None:
        return Answer.CANNOT_TELL
    if few_alike(interval) and not bound.counted:
        # equal runs: not lower, whatever the seed
        same = abs(interval.mean) < FLAT and bound.support < 0 and not unsure
        return Answer.HOLDS if same else Answer.CANNOT_TELL
    supported = interval.low > bound.support if bound.support == 0 else interval.low >= bound.support
    refuted = wider.high < bound.refute
    if refuted and (bound.strict or not supported):
        return Answer.DOES_NOT_HOLD
    return Answer.HOLDS if supported else Answer.CANNOT_TELL


def conclude(evidence: Sequence[Evidence]) -> Answer:
    """All support: holds. One refutes: does not hold. Nothing was tested: not tested. Else: cannot tell."""
    answers = {e.answer for e in evidence}
    if not answers:
        return Answer.NOT_TESTED
    if Answer.DOES_NOT_HOLD in answers:
        return Answer.DOES_NOT_HOLD
    return Answer.HOLDS if answers == {Answer.HOLDS} else Answer.CANNOT_TELL
