"""What malicious clients do, and when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor

from autoflip_secure.interfaces.attack_view import AttackView, Threat
from autoflip_secure.interfaces.base import Config, Plugin
from autoflip_secure.interfaces.channel import Channel
from autoflip_secure.interfaces.phases import is_exploration


class Window(Config):
    """Rounds in which malicious clients act: 1-based, both ends included; 0 is the exploration.

    >>> [number for number in range(8) if Window(first=2, period=3).holds(number)]
    [2, 5]
    """

    first: Annotated[
        int, Field(ge=0, le=100_000, description="first round in which they act, from 1; 0, with last: 0: exploration")
    ] = 1
    last: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None, description="last round in which they act; null = to the end, 0 = the exploration alone"
    )
    period: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        default=None, description="length of an on-off cycle in rounds, counted from first; null = always on"
    )
    acting: Annotated[int, Field(ge=1, le=100_000, description="first rounds of each cycle, in which they act")] = 1

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.last is not None and self.last < self.first:
            why = "; exploration alone is first: 0, last: 0" if self.last == 0 else ""
            raise ValueError(f"last = {self.last} is before first = {self.first}; give last >= first, or null{why}")
        if self.period is None and self.acting != 1:
            raise ValueError(f"acting = {self.acting} counts with a period only; give a longer period, or leave it out")
        if self.period is not None and self.acting >= self.period:
            raise ValueError(
                f"acting = {self.acting} fills the period = {self.period}; give acting < period, or leave both out"
            )
        return self

    def holds(self, round_: int) -> bool:
        """Whether they act in this round, from 1."""
        if round_ < self.first or (self.last is not None and round_ > self.last):
            return False
        return self.period is None or (round_ - max(self.first, 1)) % self.period < self.acting


class Attack(Plugin):
    """Who is malicious, and when; subclasses say what they do."""

    threat: ClassVar[Threat] = Threat("own", ())  # of an attack as it is by default
    equation: ClassVar[str] = ""  # what is sent, in one line of text

    scope: Annotated[
        float, Field(ge=0, le=1, description="share of the clients that are malicious (rounded to a whole number)")
    ] = 0.2
    clients: tuple[Annotated[int, Field(ge=0, lt=100_000)], ...] | None = Field(
        default=None, description="explicit ids (0-based) of the malicious clients; overrides scope"
    )
    window: Window = Field(default=Window(), description="rounds in which malicious clients act")
    explorers: bool = Field(default=True, description="malicious clients are malicious in the exploration too")

    @property
    def threat_card(self) -> Threat:
        """Its threat card as it is configured."""
        return self.threat

    @property
    def declared(self) -> bool:
        """Whether it says itself what it knows; an ``UpdateAttack`` need not, and is shown all rows."""
        own = type(self).threat
        return own is not Attack.threat and own is not UpdateAttack.threat

    @property
    def parts(self) -> tuple[Attack, ...]:
        """The attacks of the scenario: this one."""
        return (self,)

    @property
    def named_classes(self) -> tuple[int, ...]:
        """Classes of the data that its settings name, which have to be there."""
        return ()

    def active(self, round_: int) -> bool:
        """Whether malicious clients act in this round (0 = exploration) or later exploration (:mod:`.phases`)."""
        return self.explorers if is_exploration(round_) else self.window.holds(round_)


class SeveralAttacks(Plugin):
    """Several attacks in one scenario, in order, each with its own clients and window; written as a list."""

    kind: Literal["several"] = "several"
    source: ClassVar[str] = "composition: each changes what those before it left"
    attacks: Annotated[
        tuple[SerializeAsAny[Attack], ...], Field(min_length=2, max_length=16, description="attacks, in order")
    ]

    @property
    def parts(self) -> tuple[Attack, ...]:
        """Its attacks, in order."""
        return self.attacks


class NoAttack(Plugin):
    """Every client is honest."""

    kind: Literal["none"] = "none"
    source: ClassVar[str] = "baseline: honest clients"

    @property
    def parts(self) -> tuple[Attack, ...]:
        """None."""
        return ()


class DataAttack(Attack, ABC):
    """Changes a malicious client's labels before it trains. The draw is the client's, the same in every round."""

    threat: ClassVar[Threat] = Threat("own", ("labels",))

    @abstractmethod
    def labels(self, labels: Int[Tensor, " n"], num_classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """The labels that the malicious client trains on."""

    @property
    def follows_model(self) -> bool:
        """Whether the labels depend on the global model: then :meth:`labels_under` is asked instead, in every round."""
        return False

    def labels_under(
        self,
        labels: Int[Tensor, " n"],
        num_classes: int,
        generator: torch.Generator,
        outputs: Float[Tensor, "n classes"],
    ) -> Int[Tensor, " n"]:
        """The labels of one round, from what the global model that the client starts from answers to its samples, in
        evaluation mode; the generator is the same in every round. Default: :meth:`labels`."""
        return self.labels(labels, num_classes, generator)


class SampleAttack(Attack, ABC):
    """States numbers of samples that are not true: what the server weights clients with."""

    threat: ClassVar[Threat] = Threat("own", ("samples",))

    @abstractmethod
    def samples(self, samples: Float[Tensor, " malicious"]) -> Float[Tensor, " malicious"]:
        """What malicious clients state, from the true numbers: whole numbers from 1, each from its own alone."""


class ParticipationAttack(Attack, ABC):
    """Changes when malicious clients take part in rounds: what they tell the server of their availability."""

    threat: ClassVar[Threat] = Threat("own", ("participation",))

    @abstractmethod
    def places(self, places: Float[Tensor, " malicious"]) -> Float[Tensor, " malicious"]:
        """Where malicious clients stand in a round's queue, from where they would: each from its own place alone.

        A place is a number in [0, 1), the same for all algorithms of a seed; what comes back is at least 0. The cohort
        are the clients with the lowest places, under Poisson sampling those below cohort / clients.
        """


class RowAttack(Attack, ABC):
    """Changes malicious clients' rows after they trained, with what its :class:`Threat` says that it knows."""

    @abstractmethod
    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """One round, in which somebody malicious takes part.

        Returns:
            ``view.updates`` with the malicious rows replaced (others are ignored), and the attack's memory, which comes
            back as ``view.memory``; None without one. What lies outside ``view.active`` stays as trained; running
            statistics may change where the threat card names ``buffers``.
        """

    def channel(
        self,
        channel: Channel,
        rows: Float[Tensor, "clients size"],
        malicious: Bool[Tensor, " clients"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "clients size"]:
        """Rows of another channel, of clients that it may see, the malicious ones replaced. Default: as measured."""
        return rows


class UpdateAttack(RowAttack, ABC):
    """The simple case: malicious clients' rows from rows and flags alone. It is shown all rows."""

    threat: ClassVar[Threat] = Threat("rows", ("update",))

    @abstractmethod
    def updates(
        self,
        updates: Float[Tensor, "clients params"],
        malicious: Bool[Tensor, " clients"],
        active: Bool[Tensor, " params"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "clients params"]:
        """All rows, the malicious ones replaced.

        ``generators`` has one per row, by address; ``active`` marks the trained, unmasked coordinates, the only ones
        that are sent.
        """

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """What :meth:`updates` says, without a memory."""
        return self.updates(view.updates, view.malicious, view.active, view.generators), None

    def channel(
        self,
        channel: Channel,
        rows: Float[Tensor, "clients size"],
        malicious: Bool[Tensor, " clients"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "clients size"]:
        """Rows of another channel, the malicious ones replaced. Default: what :meth:`updates` does, to all numbers."""
        return self.updates(rows, malicious, torch.ones_like(rows[0], dtype=torch.bool), generators)
