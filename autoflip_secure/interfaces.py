"""The nouns of the project: what a plug-in is asked, and with what. Small abstract classes, no behaviour.

A plug-in is a frozen, validated configuration with pure functions on rows: state in, state out. It is named by its
``kind`` in one explicit table (:mod:`scenarios.tables`), never found by import side effects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from autoflip_secure.docstrings import docstring
from autoflip_secure.parameters import Layout
from autoflip_secure.seeds import PrivateDraws


class Config(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Its docstring is for people (``list``, ``schema``), and there however Python was started."""
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__doc__ is None:
            cls.__doc__ = docstring(cls) or None


class Plugin(Config):
    """A configuration with a ``kind: Literal[...]``; the first line of its docstring is what ``list`` prints."""


class Schedule(Config):
    """Local training of one client."""

    optimizer: Literal["sgd", "adam"] = Field(default="sgd", description="plain or momentum SGD, or Adam")
    lr: Annotated[float, Field(gt=0, le=1e6, description="learning rate")] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1, description="momentum of SGD")] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1e6, description="L2 penalty, coupled as in torch.optim")] = 0.0
    batch_size: Annotated[int, Field(ge=1, le=100_000, description="samples per step")] = 16
    epochs: Annotated[int, Field(ge=1, le=10_000, description="passes over the client's data per round")] = 5


# ---------------------------------------------------------------------------------------------- local training


@dataclass(frozen=True)
class PrivateSteps:
    """DP-SGD in one job (Abadi et al. 2016, Algorithm 1): Poisson batches, per-sample clipping, Gaussian noise.

    With n samples, batch size B and E epochs a job takes ``E * ceil(n / B)`` steps. In each, every sample joins the
    batch by itself with probability q = B / n <= 1; the sum of the per-sample gradients, each clipped to L2 norm
    ``clip``, gets noise of standard deviation ``noise_multiplier * clip`` per coordinate and is divided by the expected
    batch size q n = B.
    """

    clip: float  # > 0, L2 norm over all trained, unmasked coordinates; also the sensitivity: there is no second number
    noise_multiplier: float  # >= 0, in units of clip; 0 = clipping alone


@dataclass(frozen=True)
class ClientJob:
    """One client's local training. Mini-batch order is drawn at ``(BATCHES, *address)`` of ``seed``.

    With ``private``, batches are drawn at ``(POISSON, *address)`` and noise at ``(DP_NOISE, *address)`` of ``draws``.
    """

    start: Float[Tensor, " params"]
    samples: Int[Tensor, " n"]  # rows of the training set
    labels: Int[Tensor, " n"]  # as this client sees them: a label-flipping client sees wrong ones
    seed: int
    address: tuple[int, ...]  # (round, client, ...)
    mask: Bool[Tensor, " params"] | None = None  # False: weight is zero and stays zero
    private: PrivateSteps | None = None  # None: plain SGD
    draws: PrivateDraws | None = None  # None: of ``seed`` alone, for jobs that belong to no cell

    @property
    def private_draws(self) -> PrivateDraws:
        """Where private batches and noise come from."""
        return PrivateDraws.of(self.seed) if self.draws is None else self.draws


@dataclass(frozen=True)
class Trained:
    """What local training gave: ``updates`` = end - start (jobs, params); mean training loss (jobs, epochs)."""

    updates: Float[Tensor, "jobs params"]
    losses: Float[Tensor, "jobs epochs"]


# ---------------------------------------------------------------------------------------------- exploration, guidance


@dataclass(frozen=True)
class Exploration:
    """Phase 1: what the explorers sent, and the landscape energy made of it. Bad explorers are among them."""

    clients: Int[Tensor, " explorers"]
    samples: Float[Tensor, " explorers"]  # n_k
    deviations: Float[Tensor, "sent params"]  # d_k = w_k - w_0, signed; no rows once the first pruning is done
    energy: Float[Tensor, " params"]  # D_0 >= 0
    agreement: Float[Tensor, " explorers"]  # a_k
    kept: Bool[Tensor, " explorers"]
    losses: tuple[tuple[float, ...], ...] = ()  # per explorer and epoch
    rejected: tuple[int, ...] = ()  # clients whose deviations were not usable; not among ``clients``


@dataclass(frozen=True)
class Guidance:
    """The landscape as it stands: energy D and parameter agreement A, both (params,)."""

    energy: Float[Tensor, " params"]
    parameter_agreement: Float[Tensor, " params"]


# ---------------------------------------------------------------------------------------------- pruning


@dataclass(frozen=True)
class PruneView:
    """What a pruner may look at."""

    layout: Layout
    chain: Any  # autoflip_secure.structure.Chain, or None when units are unknown
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]  # current; all True at the start
    exploration: Exploration | None
    guidance: Guidance | None
    round: int  # 0: before training
    rounds: int
    generator: Callable[..., torch.Generator]  # generator(*address below PRUNING)
    normalisation: str = "sqrt_q99"  # of guidance


class Pruner(Plugin, ABC):
    """Decides which coordinates live."""

    needs_guidance: ClassVar[bool] = False
    needs_explorers: ClassVar[bool] = False  # looks at what single explorers sent, not at the landscape alone

    @abstractmethod
    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The mask from now on; ``view.mask`` itself when nothing changes in this round."""

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """Weights after the mask went from ``old`` to ``new``. Default: what is masked becomes zero, nothing else."""
        return weights * new


# ---------------------------------------------------------------------------------------------- aggregation


@dataclass(frozen=True)
class RoundView:
    """What the server sees in one round. No row is longer than 1e18: clients that sent others are left out before."""

    round: int
    clients: Int[Tensor, " clients"]
    samples: Float[Tensor, " clients"]  # n_k
    updates: Float[Tensor, "clients params"]  # u_k, zero where masked
    weights: Float[Tensor, " params"]  # w, before this round
    mask: Bool[Tensor, " params"]
    guidance: Guidance | None
    layout: Layout
    shrinkage: Float[Tensor, " clients"]  # share of w that weight decay alone took off each client's copy

    @property
    def directions(self) -> Float[Tensor, "clients params"]:
        """The rows without running statistics and frozen weights: what norms, distances and angles are measured on."""
        return self.updates * self.layout.trained.to(self.updates.device)


@dataclass(frozen=True)
class Aggregate:
    """The server's decision: the step, and what each client counted for."""

    delta: Float[Tensor, " params"]
    trust: Float[Tensor, " clients"]  # omega_k: non-negative, sums to 1, or all 0 (no step)
    scores: Float[Tensor, " clients"] | None  # s_k in [0, 1]; None: this aggregator does not score
    state: Any = None
    statistics: dict[str, Float[Tensor, " clients"]] = field(default_factory=dict)


class Aggregator(Plugin, ABC):
    """Turns the rows of one round into one step."""

    needs_guidance: ClassVar[bool] = False
    scores_clients: ClassVar[bool] = False
    linear: ClassVar[bool] = False  # a sum of rows with weights that do not depend on them: a secure sum is enough

    def start(self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None) -> Any:
        """State before round 1. Default: stateless."""
        return None

    @abstractmethod
    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round."""


# ---------------------------------------------------------------------------------------------- privacy of clients


@dataclass(frozen=True)
class PrivacyView:
    """What client-level privacy works on in one round (0 = exploration)."""

    round: int
    honest: Bool[Tensor, " clients"]  # rows whose owners do as they are told; bad clients neither clip nor noise
    active: Bool[Tensor, " params"]  # coordinates that are sent
    expected: float  # clients that take part, on average: the denominator, never the number that really came
    noise_multiplier: float
    generators: list[np.random.Generator]  # one per row, by address
    server: np.random.Generator  # for what the server draws


Accountant = Literal["rdp", "prv", "pld"]
"""What a target epsilon is measured with; ``pld`` needs the extra ``accounting``."""


class ClientPrivacy(Plugin, ABC):
    """What is done to updates so that what leaves a client, or the server, reveals little.

    The clip norm is the sensitivity: mechanisms get noise in units of it, never a second number.
    """

    unit: ClassVar[Literal["sample", "client"]]
    noise_multiplier: float | None
    target_epsilon: float | None
    delta: float | None
    accountant: Accountant
    fix_modules: bool
    allow_unproven: bool
    noise_source: Literal["seed", "system"]

    @property
    def trusted_server(self) -> bool:
        """Whether the server gets rows without noise, so that only their noised sum may be used."""
        return False

    @property
    def exploration_multiplier(self) -> float | None:
        """Noise multiplier of the explorers' deviations where it is not that of the updates."""
        return None

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
            updates: the rows before :meth:`send`, bad clients' too, from which a server that is trusted with them
                refreshes an adaptive clip norm.
            view: the round.
        """
        return delta, state


class NoPrivacy(Plugin):
    """Updates leave the clients as they are."""

    kind: Literal["none"] = "none"


# ---------------------------------------------------------------------------------------------- bad clients


class Window(Config):
    """Rounds in which bad clients act: 1-based, both ends included; ``last: null`` = to the end."""

    first: Annotated[int, Field(ge=1, le=100_000)] = 1
    last: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last = {self.last} is before first = {self.first}; give last >= first, or null")
        return self


class Attack(Plugin):
    """Who is bad, and when; subclasses say what they do."""

    scope: Annotated[
        float, Field(ge=0, le=1, description="share of the clients that are bad (rounded to a whole number)")
    ] = 0.2
    clients: tuple[Annotated[int, Field(ge=0, lt=100_000)], ...] | None = Field(
        default=None, description="explicit ids (0-based) of the bad clients; overrides scope"
    )
    window: Window = Window()
    explorers: bool = Field(default=True, description="bad clients are bad in the exploration too")

    def active(self, round_: int) -> bool:
        """Whether bad clients act in this round (0 = exploration)."""
        if round_ == 0:
            return self.explorers
        return self.window.first <= round_ and (self.window.last is None or round_ <= self.window.last)


class NoAttack(Plugin):
    """Every client is honest."""

    kind: Literal["none"] = "none"


class DataAttack(Attack, ABC):
    """Changes a bad client's labels before it trains. The draw is the client's, the same in every round."""

    @abstractmethod
    def labels(self, labels: Int[Tensor, " n"], num_classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """The labels that the bad client trains on."""


class UpdateAttack(Attack, ABC):
    """Changes bad clients' rows after they trained."""

    @abstractmethod
    def updates(
        self,
        updates: Float[Tensor, "clients params"],
        bad: Bool[Tensor, " clients"],
        active: Bool[Tensor, " params"],
        generators: list[torch.Generator],
    ) -> Float[Tensor, "clients params"]:
        """All rows, the bad ones replaced. ``generators`` has one per row, by address; ``active`` marks the trained,
        unmasked coordinates, the only ones that are sent."""
