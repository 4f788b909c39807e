"""How a client trains."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from autoflip_secure.interfaces.base import Config

Precision = Literal["float32", "bfloat16"]
"""What local training computes forward and backward in; bfloat16: mixed with float32, see :mod:`..training.precision`.
"""


class Augmentation(Config):
    """How training images are changed at random, each of them anew in every epoch; test images never are."""

    source: ClassVar[str] = "torchvision's RandomHorizontalFlip, RandomCrop and ColorJitter without hue"
    flip: Annotated[float, Field(ge=0, le=1, description="chance to be mirrored; AutoFLIP's authors: 0.5")] = 0.0
    crop: Annotated[int, Field(ge=0, le=64, description="shift by up to so many pixels each way, over black")] = 0
    jitter: Annotated[
        float,
        Field(
            ge=0, lt=1,
            description="brightness, contrast, saturation (of colours) times 1 ± up to this; AutoFLIP's authors: 0.5",
        ),
    ] = 0.0  # fmt: skip

    @model_validator(mode="after")
    def _something(self) -> Augmentation:
        if not (self.flip or self.crop or self.jitter):
            raise ValueError("augment changes nothing; give it flip, crop or jitter above 0, or leave it out")
        return self

    @property
    def needs_range(self) -> bool:
        """Whether it has to know which numbers are black and white."""
        return bool(self.crop or self.jitter)


class TrainingSchedule(Config):
    """Local training of one client."""

    source: ClassVar[str] = "McMahan et al. 2017, Algorithm 1 (ClientUpdate)"
    optimizer: Literal["sgd", "adam"] = Field(default="sgd", description="plain or momentum SGD, or Adam")
    lr: Annotated[float, Field(gt=0, le=1e6, description="learning rate")] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1, description="momentum of SGD")] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1e6, description="L2 penalty, coupled as in torch.optim")] = 0.0
    batch_size: Annotated[int, Field(ge=1, le=100_000, description="samples per step")] = 16
    epochs: Annotated[int, Field(ge=1, le=10_000, description="passes over the client's data per round")] = 5
    lr_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="factor of lr from one round to the next; AutoFLIP's authors: 0.99"
    )
    augment: Augmentation | None = Field(
        default=None, description="random changes of training images: flip, crop, jitter; null = none"
    )

    precision: Precision = Field(
        default="float32",
        description="of forward and backward: bfloat16 is mixed precision, one client at a time; weights, steps and "
        "tests stay in float32",
    )

    def in_round(self, round_: int) -> TrainingSchedule:
        """The schedule of round t, from 1: lr times lr_decay^(t - 1)."""
        if self.lr_decay == 1:
            return self
        return self.model_copy(update={"lr": self.lr * self.lr_decay ** (round_ - 1), "lr_decay": 1.0})
