"""The keys of one cell, each with its bounds, default and description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.algorithm.guidance import GuidanceConfig
from autoflip_secure.interfaces import (
    Config,
    TrainingSchedule,
)
from autoflip_secure.scenarios.config.algorithms import ALGORITHMS
from autoflip_secure.scenarios.config.families import (
    AlgorithmConfig,
    AnyAttack,
    AnyData,
    AnyModel,
    AnyPartition,
    AnyPrivacy,
    Short,
    expand,
)
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig


def _none_in_words(value: Any) -> Any:
    return None if value == "none" else value


class Fields(Config):
    """Everything that changes the numbers of a cell, its seed apart; :class:`.Settings` also fit together."""

    data: AnyData = Field(description="what is learned")
    partition: AnyPartition = Field(description="who owns which samples")
    model: AnyModel = Field(description="which network")
    clients: Annotated[int, Field(ge=1, le=100_000, description="number of clients")] = 20
    cohort: Annotated[int, Field(ge=1, le=100_000, description="number of clients that take part in a round")] = 5
    rounds: Annotated[int, Field(ge=1, le=100_000, description="rounds of training")] = 60
    evaluate_every: Annotated[
        int, Field(ge=1, le=100_000, description="rounds between evaluations of the test accuracy")
    ] = 1
    evaluation: Literal["global", "personal"] = Field(
        default="global",
        description="the global model on the test set, or each client's own model on rows of its own (held_out)",
    )
    held_out: Annotated[
        float,
        Field(
            gt=0, lt=1, description="with evaluation: personal: share of each client's rows that is never trained on"
        ),
    ] = 0.2
    measures: Annotated[tuple[Literal["stability"], ...], Field(max_length=1)] = Field(
        default=(),
        description="what the record has of every round besides: stability = how updates lie to the map of the first "
        "exploration, to each other and to the round before",
    )
    training: TrainingSchedule = TrainingSchedule()
    exploration: ExplorationConfig = ExplorationConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    algorithm: Annotated[
        AlgorithmConfig, BeforeValidator(lambda value: expand("algorithm", value)), Short(sorted(ALGORITHMS))
    ] = Field(description="pruner × aggregator × local rule")
    attack: AnyAttack = Field(description="what malicious clients do")
    privacy: AnyPrivacy = Field(description="privacy mechanism that limits what updates reveal")
    secure_sum: Annotated[SecureSumConfig | None, BeforeValidator(_none_in_words), Short(["none"])] = Field(
        default=None, description="rows pass through party processes in shares, so that the server sees sums only"
    )
    sampling: Literal["fixed", "poisson"] = Field(
        default="fixed",
        description="cohorts of a fixed size, or each client independently with probability cohort / clients",
    )
    server_lr: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=1.0, description="learning rate of the server: what a round's step is multiplied by"
    )
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="damped momentum beta of the server: v <- beta v + (1 - beta) step; the authors': 0.9"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="cpu", description="where tensors live; auto = a GPU if there is one"
    )
    trainer: Literal["auto", "stacked", "sequential"] = Field(
        default="auto", description="many clients in one program, or one after another"
    )
