"""What an audit found: attacks on one scenario, judged afterwards, beside what is proven."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from autoflip_secure.records.privacy import Observer, PrivacyRecord, Relation

AUDIT_SCHEMA = 2

Part = Literal["everything", "exploration", "one training", "channels"]
"""Of what an observer sees; channels: what clients send beside their updates."""

Verdict = Literal["violated", "holds", "cannot tell", "no guarantee"]
"""Of one setting; ``no guarantee``: nothing is proven, so nothing can be refuted."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Estimate(_Record):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class MembershipResult(_Record):
    """One membership attack on one view. Chance: AUC 0.5, true positives = false positives."""

    attack: Literal["loss threshold", "LiRA", "LiRA on gradients"]
    view: str  # "final global model", "updates of client 3"
    members: int
    others: int
    auc: Estimate
    at_1_percent: Estimate  # true positive rate at a false positive rate of 1 %
    at_01_percent: Estimate  # and of 0.1 %
    roc: list[tuple[float, float]]  # (false positive rate, true positive rate), thinned


class EmpiricalEpsilon(_Record):
    """What an attacker showed, what it could have shown at most, and what is proven of the same releases."""

    unit: Literal["sample", "client"]
    observer: Observer  # who attacks
    what: str  # what was attacked, in words
    part: Part
    noise: Literal["as run", "calibrated"]  # calibrated: the same code with all noise times ``factor``
    factor: float
    relation: Relation | None  # None: nothing is proven
    runs: int
    canaries: int  # of all runs, each in or out by a coin of its own
    guesses: int
    right: int
    delta: float
    confidence: float  # of this bound; all of one record hold together with 95 %
    lower: float  # epsilon shown, see autoflip_secure.scenarios.audits.claims
    ceiling: float  # what would have been shown had every guess been right
    proven: float | None  # None: nothing is proven
    claimed: float | None = None  # what the mechanism claims without a proof
    violated: bool  # lower >= proven: the mechanism, the noise or the accounting is not what the ledger says

    @property
    def can_fail(self) -> bool:
        """Whether the attack could have shown as much as is proven."""
        return self.proven is not None and self.ceiling >= self.proven

    @property
    def refutes(self) -> bool:
        """Whether the attacker showed more than is claimed without a proof."""
        return self.claimed is not None and self.lower > self.claimed


class LabelInference(_Record):
    """Guessing which classes a client owns from what the server sees of the exploration."""

    view: Literal["plain", "squared", "as sent", "securely summed"]
    clients: int
    accuracy: Estimate  # share of a client's classes among the same number of guesses, mean over clients
    chance: float
    auc: float | None  # over (client, class) pairs; None: every client owns every class


class AuditRecord(_Record):
    """The audit of one cell."""

    schema_version: int = AUDIT_SCHEMA
    scenario: str
    cell: str
    axes: dict[str, Any]
    algorithm: str
    seed: int
    versions: dict[str, str]
    inputs: dict[str, str] = {}  # fingerprints of what the cell reads: an audit of other data is another one
    effort: dict[str, int]  # how hard attackers tried
    attack: dict[str, Any]  # of the malicious clients
    protection: dict[str, Any]  # the scenario's privacy settings
    parties: dict[str, Any] | None = None  # its secure sums
    final_accuracy: float
    privacy: PrivacyRecord | None
    membership: list[MembershipResult]
    empirical: list[EmpiricalEpsilon]
    labels: list[LabelInference]
    notes: list[str]

    @property
    def verdict(self) -> Verdict:
        """What the audit of this setting comes to."""
        return verdict_of(self.empirical)


def verdict_of(bounds: Iterable[EmpiricalEpsilon]) -> Verdict:
    """A violation counts first; that nothing is violated says something only where something could have been."""
    claims = [bound for bound in bounds if bound.proven is not None]
    if any(bound.violated for bound in claims):
        return "violated"
    if any(bound.can_fail for bound in claims):
        return "holds"
    return "cannot tell" if claims else "no guarantee"
