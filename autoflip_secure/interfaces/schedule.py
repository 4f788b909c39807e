"""How a client trains."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from autoflip_secure.interfaces.base import Config


class TrainingSchedule(Config):
    """Local training of one client."""

    source: ClassVar[str] = "McMahan et al. 2017, Algorithm 1 (ClientUpdate)"
    optimizer: Literal["sgd", "adam"] = Field(default="sgd", description="plain or momentum SGD, or Adam")
    lr: Annotated[float, Field(gt=0, le=1e6, description="learning rate")] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1, description="momentum of SGD")] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1e6, description="L2 penalty, coupled as in torch.optim")] = 0.0
    batch_size: Annotated[int, Field(ge=1, le=100_000, description="samples per step")] = 16
    epochs: Annotated[int, Field(ge=1, le=10_000, description="passes over the client's data per round")] = 5
