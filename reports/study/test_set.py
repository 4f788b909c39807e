r"""What other test samples would change: all seeds are tested on the same ones, so that no spread over seeds shows it.

Let :math:`p_i` be how often sample :math:`i` of :math:`m` is classified rightly, over seeds and the evaluations that
count. An accuracy is the mean :math:`a` of the :math:`p_i`, a difference that of :math:`p_i - q_i`. Of samples drawn
anew from the same source,

.. math::
    \operatorname{Var}(a) = \frac{\operatorname{Var}_i(p_i)}{m} \le \frac{a (1 - a)}{m}, \qquad
    \operatorname{Var}(a - b) \le \frac{\min(a + b,\; 2 - a - b) - (a - b)^2}{m}

which is the variance of a binomial, and that of two models that are never wrong (or never right) on the same sample.
Both are bounds, and neither falls with more seeds. How often two models differ on a sample is not recorded, and of two
that mostly fail on the same samples the true variance is far below the second bound; so that one is told, and counts
in no word. Near 0 and 1 two right and two wrong answers are added to the first (Agresti and Coull, 1998).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.study import Study

NORMAL = 1.959964  # 97.5 % of the normal distribution
LARGEST = 1_000_000  # test samples; beyond, a float does not tell fractions apart


def counted(records: Iterable[RunRecord]) -> int | None:
    """Samples of the test set: the smallest number of which every accuracy is a multiple; None: there is none.

    Records do not have the number. With a handful of different accuracies it is the number itself; with fewer it may
    be a divisor of it, which overstates what other samples would change.
    """
    seen = {accuracy for record in records for accuracy in record.curve.test_accuracy if accuracy is not None}
    samples = 1
    for accuracy in filter(math.isfinite, seen):
        share = Fraction(accuracy).limit_denominator(LARGEST)
        samples = math.lcm(samples, share.denominator)
        if float(share) != accuracy or samples > LARGEST:
            return None
    return samples if samples > 1 and all(map(math.isfinite, seen)) else None


def samples(study: Study) -> dict[str, int]:
    """Facet -> samples of its test set, where they can be told; facets of the same data share one.

    None where clients are tested on rows of their own: no one set is behind a mean over clients.
    """
    runs: dict[str, list[RunRecord]] = {}
    for record in study.records:
        if record.personal is not None:
            continue
        runs.setdefault(canonical(record.config.get("data")), []).append(record)
    known = {data: counted(found) for data, found in runs.items()}
    found = {
        facet: known.get(canonical(config.get("data")))
        for facet, config in study.facets.items()
        if config.get("evaluation") != "personal"
    }
    return {facet: number for facet, number in found.items() if number is not None}


def error(accuracy: float, number: int) -> float:
    """Standard error of an accuracy over test sets of ``number`` samples, at most."""
    centre = (accuracy * number + 2) / (number + 4)
    return math.sqrt(centre * (1 - centre) / (number + 4))


def error_of_difference(first: float, second: float, number: int) -> float:
    """The same of a difference of two accuracies on the same samples: a bound, and usually far too large."""
    apart = min(first + second, 2 - first - second)
    return math.sqrt(max(0.0, apart - (first - second) ** 2) / number)


def widened(interval: Interval, number: int) -> Interval:
    """An interval of an accuracy over seeds *and* test samples: the two variances add up."""
    if interval.low is None or interval.high is None:
        return interval
    half = NORMAL * error(interval.mean, number)
    low = interval.mean - math.hypot(interval.mean - interval.low, half)
    high = interval.mean + math.hypot(interval.high - interval.mean, half)
    return replace(interval, low=max(0.0, low), high=min(1.0, high))
