"""What an audit of one cell found: what attackers achieved, beside what is proven. Plain data, as JSON.

Numbers here are measured; what is proven stands in :class:`~autoflip_secure.privacy_record.PrivacyRecord`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from autoflip_secure.privacy_record import Observer, PrivacyRecord, Relation

SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Measured(_Record):
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float
    confidence: float = 0.95


class TruePositives(_Record):
    """Members found while at most ``false_positive_rate`` of the non-members are accused."""

    false_positive_rate: float  # that was asked for; what was used is the largest possible below it
    rate: Measured  # Clopper-Pearson, at the threshold that the curve picks
    resolvable: bool  # whether there are enough non-members for one of them to be such a share


class Curve(_Record):
    """How well scores tell two groups apart: judged by the framework."""

    positives: int
    negatives: int
    auc: Measured  # 0.5 = chance; bootstrap over both groups
    true_positives: list[TruePositives]
    points: list[tuple[float, float]]  # (false, true positive rate), thinned, from (0, 0) to (1, 1)


class MembershipResult(_Record):
    """One membership attack on one target."""

    attack: Literal["loss threshold", "LiRA online", "LiRA offline"]
    target: Literal["final global model", "one client's update"]
    client: int  # whose samples are the members
    round: int | None  # of the update; None: after the last round
    shadows: int  # shadow models that the attack was fitted on; 0: none
    curve: Curve


class Verdict(_Record):
    """``lower <= upper``? ``holds`` is None where nothing is proven, so nothing can be violated."""

    lower: float
    upper: float | None
    holds: bool | None
    sentence: str


class EmpiricalEpsilon(_Record):
    """A lower bound on epsilon from what an attacker achieved, at ``confidence``, beside the proven upper bound."""

    method: Literal["one run", "Clopper-Pearson"]
    unit: Literal["sample", "client"]
    observer: Observer
    relation: Relation
    client: int | None  # sample level: whose samples; None: clients are alike
    canaries: int  # coins thrown
    runs: int  # of the mechanism
    score: str  # what the attacker computes, in words
    lower: float
    confidence: float
    delta: float
    guesses: int  # made; the rest abstained. Clopper-Pearson: judged outcomes
    correct: int  # of the guesses
    auc: Measured  # of the scores behind it
    verdict: Verdict


class LabelInference(_Record):
    """A curious server ranks, for each client, the classes that it may own, from the exploration deviations it sees."""

    view: Literal["plain", "noised", "secure sum"]
    clients: int
    classes: int
    owned: float  # classes per client, mean
    auc: Measured  # over (client, class) pairs; bootstrap over clients; 0.5 = chance
    accuracy: Measured  # share of guessed classes that are owned, when the number of them is known; over clients
    chance: float  # that share for guesses at random


class AuditRecord(_Record):
    """The audit of one cell."""

    schema_version: int = SCHEMA_VERSION
    scenario: str
    cell: str  # content hash
    config: dict[str, Any]
    algorithm: str
    seed: int
    versions: dict[str, str]
    final_accuracy: float  # of the global model that was attacked
    privacy: PrivacyRecord | None  # the ledger; None: no privacy was asked for
    membership: list[MembershipResult]
    epsilons: list[EmpiricalEpsilon]
    labels: list[LabelInference]
    assumed: list[str]  # what each attacker is given, and what the figures do not say
    seconds: dict[str, float]  # per part

    @property
    def violations(self) -> list[EmpiricalEpsilon]:
        """Measured lower bounds above what is proven: a bug in the mechanism or in its accounting."""
        return [found for found in self.epsilons if found.verdict.holds is False]
