r"""The outcome of a run: what every table, sentence, gate and assertion takes for what came out, from one place.

.. math:: \text{outcome} = \frac1m \sum_{i=0}^{m-1} y_{T-i}, \qquad
    m = \min\big(n,\; \#\{\text{evaluations in the second half of the rounds}\}\big)

of the evaluations :math:`y_1 \dots y_T` of a run, accuracy or loss. One evaluation alone jumps from round to round by
more than what most comparisons are about: with two classes a client, by whoever happened to be in the last cohort. The
first half of a short run is left out, since there it is still learning. ``last`` (:math:`n = 1`) is the model that a
run ends with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Self

from autoflip_secure.errors import InputError
from autoflip_secure.records.curve import Curve
from autoflip_secure.records.run import RoundRecord, RunRecord

MOST = 999
SHAPE = "'last', or 'mean of the last 5' with a number from 2 to 999"
PATTERN = r"^(last|mean of the last ([2-9]|[1-9]\d{1,2})( evaluations)?)$"


@dataclass(frozen=True)
class OutcomeRule:
    """Which evaluations of a run count: at most ``evaluations``, from the end; 1 is the last one alone.

    >>> OutcomeRule.parse("last"), str(OutcomeRule())
    (OutcomeRule(evaluations=1), 'mean of the last 5 evaluations')
    """

    evaluations: int = 5

    @classmethod
    def parse(cls, text: object, place: str = "outcome") -> Self:
        """From how a scenario, a baseline or ``--outcome`` writes it.

        Raises:
            InputError: it is neither ``last`` nor ``mean of the last N``.
        """
        found = re.fullmatch(PATTERN, text) if isinstance(text, str) else None
        if found is None:
            raise InputError(f"{place} = {text!r}: should be {SHAPE}")
        return cls(int(found[2] or 1))

    @classmethod
    def of(cls, scenario: Mapping[str, Any]) -> Self:
        """The choice of a scenario as a document; what it leaves out is the default.

        Raises:
            InputError: it names no such choice.
        """
        return cls.parse(scenario.get("outcome", str(cls())), "scenario.yaml: outcome")

    def __str__(self) -> str:
        """As a scenario writes it."""
        return "last" if self.evaluations == 1 else f"mean of the last {self.evaluations} evaluations"

    @property
    def words(self) -> str:
        """In a sentence: ``the last evaluation``."""
        return "the last evaluation" if self.evaluations == 1 else f"the {self}"

    def counted(self, record: RunRecord) -> list[RoundRecord]:
        """The evaluated rounds that count, in order; empty only for a record without evaluated rounds."""
        return [record.rounds[place] for place in self._places(record.curve)]

    def _places(self, curve: Curve) -> list[int]:
        """Where they are among all rounds, from 0."""
        seen = [place for place, accuracy in enumerate(curve.test_accuracy) if accuracy is not None]
        late = [place for place in seen if 2 * curve.round[place] > curve.round[seen[-1]]]
        return late[-self.evaluations :]

    def accuracy(self, record: RunRecord) -> float:
        """Test accuracy, in [0, 1]."""
        if self.evaluations == 1:
            return record.final_accuracy
        curve = record.curve
        found = [accuracy for place in self._places(curve) if (accuracy := curve.test_accuracy[place]) is not None]
        return fmean(found) if found else record.final_accuracy

    def attack_success(self, record: RunRecord) -> float | None:
        """Attack success rate of the run's backdoor, in [0, 1]: over the same evaluations as the accuracy.

        None: there is no backdoor, or one of them could not be measured.
        """
        found = [entry.attack_success for entry in self.counted(record)]
        known = [success for success in found if success is not None]
        return fmean(known) if known and len(known) == len(found) else None

    def between_clients(self, record: RunRecord) -> tuple[float, float] | None:
        """Accuracy of the worst honest client's own model and the standard deviation between clients, in [0, 1].

        Means over the evaluations that count, as the accuracy is; None: the global model was tested.
        """
        if record.personal is None:
            return None
        found = [entry.personal for entry in self.counted(record) if entry.personal is not None]
        return (fmean(one.worst for one in found), fmean(one.spread for one in found)) if found else None

    def loss(self, record: RunRecord) -> float | None:
        """Test loss, in nats; None where one of them is not finite."""
        if self.evaluations == 1:
            return record.final_loss
        curve = record.curve
        found = [curve.test_loss[place] for place in self._places(curve)]
        finite = [loss for loss in found if loss is not None]
        return fmean(finite) if finite and len(finite) == len(found) else None


DEFAULT = OutcomeRule()
