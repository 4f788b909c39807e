"""What the record says of a client that trained alone before round 1."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from autoflip_secure.models.amounts import Bytes, Flops


class LoneTrainingRecord(BaseModel):
    """Phase 0 of one client, whose model and mask are what round 1 begins with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: int
    malicious: bool  # the truth: misbehaved; never shown to a defence
    rejected: bool  # what it sent could not be used, and training begins with the initial model
    samples: int  # of its rows that it trained on
    passes: int  # over these
    changes: int  # how often its mask changed
    density: float  # live hidden weights / hidden weights, at its end
    bytes: Bytes  # the dense model down; its live weights and its mask up
    flops: Flops  # of its training, and of measuring its accuracy
