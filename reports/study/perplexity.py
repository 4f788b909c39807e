r"""Perplexity of models of text: how many characters a model is as unsure between as among so many equally likely ones.

.. math:: \mathrm{perplexity} = e^{L}, \qquad
          \text{over seeds: } e^{\bar L} \text{ with } e^{\bar L \pm t\, s_L / \sqrt n}

with L the test loss in nats, of the evaluations that count; over seeds it is the geometric mean, whose interval is that
of the losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval

_LARGEST = 700.0  # nats; above, exp is no number


def of_text(record: RunRecord) -> bool:
    """Whether inputs are tokens: of labels that are the next one, this is the perplexity of text."""
    return record.data is not None and record.data.features is None


def perplexity(record: RunRecord, outcome: OutcomeRule) -> float | None:
    """Of one run; None: it is not of text, or its loss is not finite.

    With ``evaluation: personal`` it is that of the mean loss over clients.
    """
    loss = outcome.loss(record) if of_text(record) else None
    return None if loss is None else math.exp(min(loss, _LARGEST))


def perplexity_over(records: Sequence[RunRecord], outcome: OutcomeRule) -> Interval | None:
    """Geometric mean over runs, one a seed, with its 95 % interval; None: of one of them there is none."""
    losses = [math.log(found) for record in records if (found := perplexity(record, outcome)) is not None]
    if not losses or len(losses) < len(records):
        return None
    interval = mean_interval(losses)
    low, high = (None if end is None else math.exp(min(end, _LARGEST)) for end in (interval.low, interval.high))
    return replace(interval, mean=math.exp(interval.mean), low=low, high=high)
