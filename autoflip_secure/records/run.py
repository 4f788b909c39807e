"""What a run leaves behind: one JSON document with a schema number. Reports are views of records, nothing else."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from autoflip_secure.models.amounts import Bytes, Flops
from autoflip_secure.records.backdoor import BackdoorRecord
from autoflip_secure.records.curve import Curve
from autoflip_secure.records.final_model import ClassAccuracies, FinalMask
from autoflip_secure.records.lone_training import LoneTrainingRecord
from autoflip_secure.records.personal import ClientAccuracies, ClientStateRecord, PersonalAccuracy
from autoflip_secure.records.privacy import PrivacyRecord
from autoflip_secure.records.root_set import RootSetRecord
from autoflip_secure.records.stability import Stability
from autoflip_secure.records.threats import ThreatRecord
from autoflip_secure.records.tuning import TuningRecord
from autoflip_secure.records.upgrade import upgraded
from autoflip_secure.secure_rows.secure_sum import Links

SCHEMA_VERSION = 2


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class _WithNewer(_Record):
    """A record whose newer fields are written only where they say something, so that others stay as they were."""

    newer: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        return {key: value for key, value in written.items() if value is not None or key not in self.newer}


class ExplorationRecord(_Record):
    """Phase 1, or a later exploration. Lists run over ``explorers``."""

    explorers: list[int]
    malicious: list[bool]
    agreement: list[float]  # a_k
    kept: list[bool]
    losses: list[list[float]]  # per explorer and epoch
    bytes: Bytes
    flops: int | None


class RoundRecord(_WithNewer):
    """One round. Lists run over the participants, in the order of ``participants``."""

    newer = frozenset({"personal", "channels", "assumed_malicious", "attack_success", "stability", "exploration"})

    round: int  # from 1
    participants: list[int]
    malicious: list[bool]  # the truth: misbehaved in this round; never shown to a defence
    scores: list[float] | None  # agreement scores in [0, 1]; None: the aggregator does not score
    trust: list[float]  # omega: share in the aggregate
    rejected: list[int]  # participants whose update was not finite, or too long; their score and trust are 0
    train_loss: float | None
    test_accuracy: float | None  # in [0, 1]; None: not evaluated in this round
    test_loss: float | None  # None: not evaluated, or not finite
    density: float  # live hidden weights / hidden weights; 1 when none is trained and prunable; own masks: mean
    update_variance: float  # of what the global model moved by, over the coordinates that are alive
    client_variance: float  # mean over all coordinates of the variance between the participants' updates
    step_norm: float
    update_variance_all: float | None = None  # over all coordinates; None: a record of an earlier version
    personal: PersonalAccuracy | None = None  # then ``test_accuracy`` and ``test_loss`` are its means over clients
    bytes: Bytes
    flops: Flops
    channels: dict[str, int] | None = None  # bytes sent beside the updates, by channel: part of the uplink in ``bytes``
    assumed_malicious: dict[str, int] | None = None  # f as used: rule -> number of its rows; None: no rule has one
    attack_success: float | None = None  # of the backdoor, on the global model; None: none, or not evaluated
    stability: Stability | None = None  # None: not asked for, or nobody sees a single update
    exploration: ExplorationRecord | None = None  # again, before this round; part of its ``bytes`` and ``flops``

    @property
    def global_accuracy(self) -> float | None:
        """Test accuracy of the global model; None: not evaluated in this round."""
        return self.test_accuracy if self.personal is None else self.personal.global_accuracy


class LayerRecord(_Record):
    """One weight tensor at the end of the run; where clients have own masks, means over clients, rounded."""

    name: str
    shape: list[int]
    hidden: bool
    weights: int
    live_weights: int
    units: int | None  # output units (neurons, filters); None: structure unknown
    live_units: int | None
    live_inputs: int | None = None  # columns of live units; None: in a chain, those that the layer before has left

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``live_inputs`` where there is nothing to say, as records were written before it."""
        written: dict[str, Any] = handler(self)
        return {key: value for key, value in written.items() if key != "live_inputs" or value is not None}


class PreparationRecord(_Record):
    """What all clients sent before training, for the first mask. Lists run over ``participants``."""

    participants: list[int]
    malicious: list[bool]
    rejected: list[int]  # who sent what cannot be used
    channels: dict[str, int]  # bytes by channel: part of the uplink in ``bytes``
    bytes: Bytes  # with the initial weights, down to those who had not explored
    flops: Flops


class GuidanceRecord(_Record):
    """Guidance of hidden weights: histograms over ``bin_edges`` and a fixed random sample of weights."""

    normalisation: str
    threshold: float | None  # T_p of the pruner, if it has one
    bin_edges: list[float]
    initial_counts: list[int]
    final_counts: list[int]
    sample: list[tuple[float, float, bool]]  # (initial G, final G, still alive), at most 600


class Detection(_Record):
    """Agreement scores as a detector of malicious participants, measured afterwards. None where undefined (one class).

    Pooled over all (round, participant) pairs; flagged means score < 0.5. ``client_auc`` uses each client's mean score.
    """

    auc: float | None
    true_positive_rate: float | None
    false_positive_rate: float | None
    client_auc: float | None
    roc: list[tuple[float, float]]  # (false positive rate, true positive rate)


class Costs(_WithNewer):
    """Totals over the run, what came before round 1 included; per-sample FLOPs: the final model's forward pass."""

    newer = frozenset({"channels"})

    bytes: Bytes
    flops: Flops
    model_flops: Flops
    compaction: str  # "ok", or why there are no operations of a compacted model, or none at all
    channels: dict[str, int] | None = None  # bytes sent beside the updates, by channel: part of the uplink in ``bytes``


class TrainerChoice(_WithNewer):
    """How local training ran, and why."""

    newer = frozenset({"together"})

    kind: Literal["stacked", "sequential"]
    reason: str
    device: str
    bits: Literal["stack", "block"] | None = None  # the numbers repeat: whatever runs beside it | when its block runs
    together: int | None = None  # cells in one program where a block was cut for want of memory; None: the whole block


class SecretPhase(_Record):
    """Rows that passed through the parties in shares, and what they gave away."""

    phase: Literal["exploration", "updates", "channels"]  # channels: what is sent beside the updates
    batches: int  # how often rows were shared: once, or once a round
    rows: int  # of all batches
    sums: int  # weighted sums of rows that the server learned, of all batches
    numbers_per_client: int  # that the server learned about one client, at most, in one batch
    client_bytes: int  # from clients to parties
    server_bytes: int  # requests and public vectors, from the server to the parties
    revealed_bytes: int  # from the parties to the server
    party_bytes: int  # among the parties
    largest_error: float | None = None  # of a sum against the same in double, per its largest entry; None: not known


class SecureSumRecord(_Record):
    """What went through the parties, and what the server saw none the less."""

    parties: int
    phases: list[SecretPhase]
    server_sees: list[str]  # one sentence for each thing that clients send
    links: Links | None = None  # what protected them; None: a record of an earlier version, which did not say


class FeatureScale(_Record):
    """Root mean squares of the columns of the training data (the numbers of a sample, flattened), about zero."""

    columns: int
    typical: float  # median over columns
    largest: float
    where: int  # the column with the largest, from 0


class DataRecord(_Record):
    """What decides beforehand whether anything can be learned, and what counts as having learned."""

    classes: int
    largest_class: float  # its share of what is tested on: always answering it is right so often
    features: FeatureScale | None = None  # None: inputs are no quantities (tokens)


_HOW_IT_RAN: Any = {
    "timing": True,
    "versions": True,
    "privacy": {"attempts"},
    "secure_sum": {"links"},
    "trainer": {"together"},
}


class RunRecord(_WithNewer):
    """One cell of a sweep."""

    newer = frozenset(
        {
            "personal",
            "client_state",
            "threats",
            "classes",
            "mask",
            "root_set",
            "tuning",
            "backdoor",
            "preparation",
            "lone_training",
        }
    )

    schema_version: int = SCHEMA_VERSION
    cell: str  # content hash of ``config``
    config: dict[str, Any]  # the full resolved cell configuration, seed included
    axes: dict[str, Any]  # the cell's place in its sweep: config path -> value as written
    tuning: TuningRecord | None = None  # how settings were chosen, on other seeds; None: nothing was tuned
    algorithm: str  # display name
    seed: int
    versions: dict[str, str]
    pipeline: list[str]  # the order in which a round was processed
    parameters: int  # and running statistics; frozen ones, which nobody trains or sends again, left out
    malicious_clients: list[int]
    threats: list[ThreatRecord] | None = None  # cards of its attacks; None: malicious clients know their own row alone
    client_samples: list[int]
    root_set: RootSetRecord | None = None  # None: the server owned no data
    data: DataRecord | None = None  # None: a record of an earlier version
    trainer: TrainerChoice
    exploration: ExplorationRecord | None
    preparation: PreparationRecord | None = None  # None: no pruner asked clients for anything before training
    lone_training: LoneTrainingRecord | None = None  # None: no client trained alone before round 1
    guidance: GuidanceRecord | None
    rounds: list[RoundRecord]
    layers: list[LayerRecord]
    costs: Costs
    detection: Detection | None  # None: the aggregator does not score
    privacy: PrivacyRecord | None = None  # the ledger; None: no privacy was asked for
    secure_sum: SecureSumRecord | None = None  # None: everything in the open
    personal: ClientAccuracies | None = None  # of the last round; None: the global model was tested
    client_state: ClientStateRecord | None = None  # None: clients remember nothing
    classes: ClassAccuracies | None = None  # None: a record of an earlier version
    mask: FinalMask | None = None  # None: nothing is pruned, clients have own masks, or a record of an earlier version
    backdoor: BackdoorRecord | None = None  # None: the run's attacks have none
    final_accuracy: float
    final_loss: float | None  # None: not finite
    events: list[str]  # what a reader must know: rejected clients, skipped steps, …
    digests: dict[str, str] = {}  # of the guidance before round 1 and of the final mask: equal means equal bit for bit
    timing: dict[str, float]  # seconds, memory: the only part that may differ between two runs of one cell

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, value: Any) -> Any:
        return upgraded(value)

    def has(self, field: str) -> bool:
        """Whether a field is not None: to be asked without reading it, of a record that lies in a file."""
        return getattr(self, field) is not None

    @property
    def curve(self) -> Curve:
        """The numbers of its rounds side by side: of a record that lies in a file the quicker way to them."""
        return Curve.of(self.rounds)

    @property
    def detection_auc(self) -> float | None:
        """Area under the ROC of the agreement scores; None: there are none, or it is undefined."""
        return self.detection.auc if self.detection is not None else None

    def numbers(self) -> dict[str, Any]:
        """Everything that determinism promises: the record without its timing, the versions and the links it ran on."""
        return self.model_dump(mode="json", exclude=_HOW_IT_RAN)
