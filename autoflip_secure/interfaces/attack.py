"""What malicious clients do, and when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.interfaces.base import Config, Plugin
from autoflip_secure.interfaces.channel import Channel


class Window(Config):
    """Rounds in which malicious clients act: 1-based, both ends included; ``last: null`` = to the end."""

    first: Annotated[int, Field(ge=1, le=100_000, description="first round in which they act, from 1")] = 1
    last: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="last round in which they act; null = to the end"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last = {self.last} is before first = {self.first}; give last >= first, or null")
        return self


class Attack(Plugin):
    """Who is malicious, and when; subclasses say what they do."""

    scope: Annotated[
        float, Field(ge=0, le=1, description="share of the clients that are malicious (rounded to a whole number)")
    ] = 0.2
    clients: tuple[Annotated[int, Field(ge=0, lt=100_000)], ...] | None = Field(
        default=None, description="explicit ids (0-based) of the malicious clients; overrides scope"
    )
    window: Window = Field(default=Window(), description="rounds in which malicious clients act")
    explorers: bool = Field(default=True, description="malicious clients are malicious in the exploration too")

    @property
    def named_classes(self) -> tuple[int, ...]:
        """Classes of the data that its settings name, which have to be there."""
        return ()

    def active(self, round_: int) -> bool:
        """Whether malicious clients act in this round (0 = exploration)."""
        if round_ == 0:
            return self.explorers
        return self.window.first <= round_ and (self.window.last is None or round_ <= self.window.last)


class NoAttack(Plugin):
    """Every client is honest."""

    kind: Literal["none"] = "none"
    source: ClassVar[str] = "baseline: honest clients"


class DataAttack(Attack, ABC):
    """Changes a malicious client's labels before it trains. The draw is the client's, the same in every round."""

    @abstractmethod
    def labels(self, labels: Int[Tensor, " n"], num_classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """The labels that the malicious client trains on."""


class UpdateAttack(Attack, ABC):
    """Changes malicious clients' rows after they trained."""

    @abstractmethod
    def updates(
        self,
        updates: Float[Tensor, "clients params"],
        malicious: Bool[Tensor, " clients"],
        active: Bool[Tensor, " params"],
        generators: list[torch.Generator],
    ) -> Float[Tensor, "clients params"]:
        """All rows, the malicious ones replaced.

        ``generators`` has one per row, by address; ``active`` marks the trained, unmasked coordinates, the only ones
        that are sent.
        """

    def channel(
        self,
        channel: Channel,
        rows: Float[Tensor, "clients size"],
        malicious: Bool[Tensor, " clients"],
        generators: list[torch.Generator],
    ) -> Float[Tensor, "clients size"]:
        """Rows of another channel, the malicious ones replaced. Default: what :meth:`updates` does, to all numbers."""
        return self.updates(rows, malicious, torch.ones_like(rows[0], dtype=torch.bool), generators)
