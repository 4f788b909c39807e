"""What is done to updates so that they reveal little."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.interfaces.base import Plugin
from autoflip_secure.interfaces.channel import Channel
from autoflip_secure.interfaces.contribution import PrivateSteps


@dataclass(frozen=True)
class NoisePlan:
    """What is known of a run before it begins, for a mechanism whose noise follows from it."""

    samples: tuple[int, ...]  # n_k of every client
    cohort: int
    rounds: int  # T
    uploads: int  # L: most messages of one client, its exploration among them

    @property
    def whole(self) -> bool:
        """Whether all clients take part in every round."""
        return self.cohort >= len(self.samples)


@dataclass(frozen=True)
class PrivacyView:
    """What client-level privacy works on in one round (0 = exploration)."""

    round: int
    honest: Bool[Tensor, " clients"]  # rows whose owners do as they are told; malicious clients neither clip nor noise
    active: Bool[Tensor, " params"]  # coordinates that are sent
    expected: float  # clients that take part, on average: the denominator, never the number that really came
    noise_multiplier: float
    generators: list[np.random.Generator]  # one per row, by address
    server: np.random.Generator  # for what the server draws
    weights: Float[Tensor, " params"] | None = None  # the global model that the round began with
    plan: NoisePlan | None = None


Accountant = Literal["rdp", "prv", "pld"]
"""What a target epsilon is measured with; ``pld`` needs the extra ``accounting``."""


class ClientPrivacy(Plugin, ABC):
    """What is done to updates so that what leaves a client, or the server, reveals little.

    The clip norm is the sensitivity: mechanisms get noise in units of it, never a second number.
    """

    unit: ClassVar[Literal["sample", "client"]]
    covers_channels: ClassVar[bool] = False  # has `send_channel` and `publish_channel`; else other channels are refused
    noise_multiplier: float | None
    target_epsilon: float | None
    delta: float | None
    accountant: Accountant
    replace_unsupported_layers: bool
    allow_unproven: bool
    noise_source: Literal["seed", "system"]

    @property
    def works_on_updates(self) -> bool:
        """Whether it hides whole clients, whose updates are clipped and noised."""
        return self.unit == "client"

    @property
    def works_on_samples(self) -> bool:
        """Whether it hides single samples, whose gradients are clipped and noised."""
        return self.unit == "sample"

    @property
    def unproven(self) -> str:
        """Why what the mechanism claims of itself is no guarantee, whatever it is combined with; "": it claims
        nothing that is not proven elsewhere."""
        return ""

    @property
    def claimed(self) -> tuple[float, float] | None:
        """(epsilon, delta) that it claims for one sample, of everything that a client sends, and that nobody proved."""
        return None

    def own_noise(self, plan: NoisePlan) -> float | None:
        """Noise multiplier by a formula of its own; None: ``noise_multiplier`` or ``target_epsilon`` decide it."""
        return None

    def remarks(self, plan: NoisePlan) -> tuple[str, ...]:
        """Sentences for the ledger."""
        return ()

    @property
    def trusted_server(self) -> bool:
        """Whether the server gets rows without noise, so that only their noised sum may be used."""
        return False

    @property
    def exploration_multiplier(self) -> float | None:
        """Noise multiplier of the explorers' deviations where it is not that of the updates."""
        return None

    @property
    def first_clip(self) -> float | None:
        """Clip norm of updates in the first round; None: there is none, or none is known."""
        return None

    @property
    def releases_votes(self) -> bool:
        """Whether votes on the clip norm are released with the updates.

        They are no channel: the trusted server counts them from the updates that it has, so nothing travels for them.
        """
        return False

    def update_multiplier(self, noise_multiplier: float) -> float:
        """Noise on the updates / clip, where all that is released together costs what ``noise_multiplier`` says.

        Raises:
            ValueError: something else that is released costs more by itself.
        """
        return noise_multiplier

    def scaled(self, factor: float) -> ClientPrivacy:
        """The same mechanism with all noise that its own settings fix times ``factor``; clip norms stay."""
        return self

    def steps(self, noise_multiplier: float) -> PrivateSteps | None:
        """DP-SGD of an honest client; None: it trains as usual."""
        return None

    def start(self) -> Any:
        """State before round 1 (an adaptive clip norm); None: stateless."""
        return None

    def explore(
        self, deviations: Float[Tensor, "clients params"], view: PrivacyView
    ) -> Float[Tensor, "clients params"]:
        """The explorers' deviations as they leave the clients."""
        return deviations

    def send(
        self, state: Any, updates: Float[Tensor, "clients params"], view: PrivacyView
    ) -> Float[Tensor, "clients params"]:
        """Updates as the aggregator gets them."""
        return updates

    def publish(
        self, state: Any, delta: Float[Tensor, " params"], updates: Float[Tensor, "clients params"], view: PrivacyView
    ) -> tuple[Float[Tensor, " params"], Any]:
        """The step as it leaves the server, and the state after the round.

        Args:
            state: see :meth:`start`.
            delta: what the aggregator made of the rows.
            updates: the rows before :meth:`send`, malicious clients' too, from which a server that is trusted with them
                refreshes an adaptive clip norm.
            view: the round.
        """
        return delta, state

    def send_channel(
        self, channel: Channel, rows: Float[Tensor, "clients size"], view: PrivacyView
    ) -> Float[Tensor, "clients size"]:
        """Rows of a channel beside the update as the server gets them; ``channel.bound`` is the clip norm."""
        return rows

    def publish_channel(
        self, channel: Channel, mean: Float[Tensor, " size"], view: PrivacyView
    ) -> Float[Tensor, " size"]:
        """Their sum / ``view.expected`` as anything else may use it."""
        return mean


class NoPrivacy(Plugin):
    """Updates leave the clients unchanged."""

    kind: Literal["none"] = "none"
    source: ClassVar[str] = "baseline: nothing is protected"
    unit: ClassVar[None] = None
    works_on_updates: ClassVar[bool] = False
    works_on_samples: ClassVar[bool] = False
    trusted_server: ClassVar[bool] = False
    replace_unsupported_layers: ClassVar[bool] = False
