"""What is run: a problem, a protocol and a seed make a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, reduce
from typing import Annotated, Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn

from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.algorithm.guidance import GuidanceConfig
from autoflip_secure.federation.cohorts import drawn, public_cohort, public_cohorts, queue
from autoflip_secure.federation.explored_before import ExploredBefore
from autoflip_secure.federation.outside_attacks import places_of
from autoflip_secure.federation.visibility import Visibility
from autoflip_secure.interfaces import (
    Aggregator,
    Attack,
    ChannelSource,
    ClientPrivacy,
    Config,
    LocalRule,
    NoAttack,
    NoisePlan,
    NoLocalRule,
    NoPrivacy,
    ParticipationAttack,
    PrivateSteps,
    Pruner,
    SeveralAttacks,
    TrainingSchedule,
    explores,
    guided,
    largest_values,
)
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import Units
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig
from autoflip_secure.seeds import PrivateDraws, Purpose, generator

A = TypeVar("A", bound=Attack)


class Protocol(Config):
    """How a federation is run: everything but the problem and the seed."""

    rounds: Annotated[int, Field(ge=1, le=100_000)] = 60
    cohort: Annotated[int, Field(ge=1, le=100_000)] = 5
    evaluate_every: Annotated[int, Field(ge=1, le=100_000)] = 1
    training: TrainingSchedule = TrainingSchedule()
    exploration: ExplorationConfig = ExplorationConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    pruner: SerializeAsAny[Pruner]
    aggregator: SerializeAsAny[Aggregator]
    local_rule: SerializeAsAny[LocalRule | NoLocalRule] = NoLocalRule()
    attack: SerializeAsAny[Attack | SeveralAttacks | NoAttack] = NoAttack()
    privacy: SerializeAsAny[ClientPrivacy | NoPrivacy] = NoPrivacy()
    sampling: Literal["fixed", "poisson"] = "fixed"  # of cohorts
    secure_sum: SecureSumConfig | None = None
    server_lr: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    measures: tuple[Literal["stability"], ...] = ()  # beside what every record has
    evaluation: Literal["global", "personal"] = "global"  # personal: each client's model on its ``Problem.held_out``

    @property
    def mechanism(self) -> ClientPrivacy | None:
        """The privacy mechanism, if there is one."""
        return self.privacy if isinstance(self.privacy, ClientPrivacy) else None

    @property
    def client_level(self) -> ClientPrivacy | None:
        """The mechanism on updates, if there is one."""
        return self.mechanism if self.privacy.works_on_updates else None

    @property
    def visibility(self) -> Visibility:
        """Who sees what of what clients send."""
        return Visibility.of(self)

    @property
    def explores(self) -> bool:
        """Whether phase 1 is needed: FedAvg does not pay for it."""
        return explores(self.pruner, self.aggregator, self.local_rule)

    @property
    def guided(self) -> bool:
        """Whether the landscape becomes guidance, which evolves."""
        return guided(self.pruner, self.aggregator)

    @property
    def guided_by_round(self) -> bool:
        """Whether guidance and mask are drawn anew after every round, of what its participants explored."""
        return self.guided and self.guidance.matrix == "per_round"

    @property
    def remembers_explorers(self) -> bool:
        """Whether what single explorers sent is wanted after the first pruning."""
        return self.guided_by_round or (self.rule is not None and self.rule.remembers_explorers)

    @property
    def rule(self) -> LocalRule | None:
        """The local rule, if there is one."""
        return self.local_rule if isinstance(self.local_rule, LocalRule) else None

    def block_key(self) -> dict[str, Any]:
        """What cells must share to be one program, as plain data; everything else may differ within a block."""
        exploring = {"epochs", "lr", "patience"}
        return self.model_dump(
            mode="json",
            include={"rounds": True, "evaluate_every": True, "training": True, "exploration": exploring},
        )


@dataclass(frozen=True)
class Problem:
    """What is learned. Tensors lie on the trainer's device; ``module`` is a template and never trained."""

    module: nn.Module
    layout: Layout
    units: Units | None  # None: unknown
    units_reason: str  # "ok", or why units are unknown
    x_train: Tensor
    y_train: Int[Tensor, " n"]
    x_test: Tensor
    y_test: Int[Tensor, " m"]
    num_classes: int
    clients: tuple[Int[Tensor, " _"], ...]  # rows of the training set owned by each client
    initial: Float[Tensor, " params"]
    recipe: str = ""  # what the module is made from: equal recipes make equal modules; "": not known
    held_out: tuple[Int[Tensor, " _"], ...] = ()  # rows of the training set that each client is tested on, if any
    root: Int[Tensor, " r"] | None = None  # rows of it that the server owns, and no client; None: it owns none
    explored: ExploredBefore | None = None  # what explorers came to in earlier blocks of the sweep, if that is kept

    def block_key(self) -> dict[str, Any]:
        """What the problems of cells must share to be one program: all but what a cell is asked for itself."""
        own = ("y_train", "num_classes", "clients", "initial", "held_out", "root")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in own}


@dataclass(frozen=True)
class Cell:
    """One run: a problem, a protocol, a seed, and the names it is known by."""

    key: str
    config: dict[str, Any]
    axes: dict[str, Any]
    algorithm: str
    seed: int
    problem: Problem
    protocol: Protocol
    noise_multipliers: tuple[float, ...] = ()  # per client; () without privacy
    conditions: str = ""  # that it runs under (software, processor, data): other conditions, other private draws

    @cached_property
    def draws(self) -> PrivateDraws:
        """Its private draws: independent of those of every other cell, and of this one under other conditions."""
        mechanism = self.protocol.mechanism
        system = mechanism is not None and mechanism.noise_source == "system"
        return PrivateDraws.of(self.seed, self.key, self.conditions, system=system)

    @cached_property
    def _malicious(self) -> tuple[Bool[Tensor, " clients"], ...]:
        """Who is malicious, for each attack of the scenario."""
        clients = len(self.problem.clients)
        order = torch.randperm(clients, generator=generator(self.seed, Purpose.MALICIOUS_CLIENTS))
        found = []
        for attack in self.protocol.attack.parts:
            malicious = torch.zeros(clients, dtype=torch.bool)
            malicious[order[: round(attack.scope * clients)] if attack.clients is None else list(attack.clients)] = True
            found.append(malicious)
        return tuple(found)

    @cached_property
    def malicious_clients(self) -> Bool[Tensor, " clients"]:
        """Who is malicious: drawn once per seed, nested as the scope grows, the same for every algorithm."""
        nobody = torch.zeros(len(self.problem.clients), dtype=torch.bool)
        return reduce(torch.logical_or, self._malicious, nobody)

    @cached_property
    def _owned(self) -> Float[Tensor, " clients"]:
        return torch.tensor([len(rows) for rows in self.problem.clients], dtype=torch.float32)

    def owned(self, clients: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        """n_k: how many rows of the training set each of ``clients`` owns, on their device."""
        return self._owned.to(clients.device)[clients]

    @cached_property
    def _acting(self) -> dict[tuple[bool, ...], Bool[Tensor, " clients"]]:
        """Who misbehaves, by which attacks act."""
        return {}

    @cached_property
    def labels_seen(self) -> dict[tuple[int, tuple[int, ...]], Int[Tensor, " n"]]:
        """Labels by (client, which attacks change them), once they were asked for: an attack draws them once, unless
        they follow the model, and then none are kept."""
        return {}

    @cached_property
    def largest(self) -> Tensor:
        """See :func:`.largest_values`; of the training inputs."""
        return largest_values(self.problem.x_train)

    def malicious_in(self, round_: int) -> Bool[Tensor, " clients"]:
        """Who misbehaves in this round (0 = exploration)."""
        acting = tuple(attack.active(round_) for attack in self.protocol.attack.parts)
        if acting not in self._acting:
            malicious = torch.zeros(len(self.problem.clients), dtype=torch.bool)
            for active, own in zip(acting, self._malicious, strict=True):
                malicious = malicious | (own & active)
            self._acting[acting] = malicious
        return self._acting[acting]

    @cached_property
    def visibility(self) -> Visibility:
        """:attr:`.Protocol.visibility`, worked out once."""
        return self.protocol.visibility

    def attacking(self, kind: type[A], round_: int) -> list[tuple[int, A, Bool[Tensor, " clients"]]]:
        """The scenario's attacks of a kind that act in this round, each with its number among them and its clients."""
        parts = zip(self.protocol.attack.parts, self._malicious, strict=True)
        own = [(attack, clients) for attack, clients in parts if isinstance(attack, kind)]
        return [(number, *one) for number, one in enumerate(own) if one[0].active(round_)]

    @property
    def channel_sources(self) -> tuple[ChannelSource, ...]:
        """Who may have clients send more than their update."""
        return self.protocol.pruner, self.protocol.aggregator

    def cohort(self, round_: int) -> Int[Tensor, " cohort"]:
        """Who takes part in this round, in ascending order: ``cohort`` clients, or each one with that chance.

        At client level the public's guarantee rests on nobody knowing, so the cohorts are private draws; everywhere
        else they are public, and the same for all cells of a seed, but for malicious clients that push in.
        """
        protocol, clients = self.protocol, len(self.problem.clients)
        if pushing := self.attacking(ParticipationAttack, round_):  # type: ignore[type-abstract]
            return self._pushed(round_, pushing)
        if protocol.client_level is not None:
            source = self.draws.agreed(Purpose.COHORT, round_)
            if protocol.sampling == "fixed":
                return torch.from_numpy(source.permutation(clients)[: protocol.cohort]).sort().values
            return torch.from_numpy(source.random(clients) < protocol.cohort / clients).nonzero().squeeze(1)
        return public_cohort(self.seed, round_, clients, protocol.cohort, protocol.sampling)

    def _pushed(self, round_: int, pushing: Sequence[tuple[int, ParticipationAttack, Tensor]]) -> Tensor:
        """A public cohort into which malicious clients push: the draw of :func:`public_cohort`, with their places."""
        protocol, clients = self.protocol, len(self.problem.clients)
        places = queue(self.seed, round_, clients, protocol.sampling)
        for _, attack, malicious in pushing:
            places[malicious] = places_of(attack, places[malicious], round_)
        if protocol.sampling == "fixed":
            return places.argsort(stable=True)[: protocol.cohort].sort().values
        return (places < protocol.cohort / clients).nonzero().squeeze(1)

    @property
    def explorers(self) -> Int[Tensor, " explorers"]:
        """Who explores before round 1, in ascending order: all clients, or as many as asked for; or nobody."""
        if not self.protocol.explores:
            return torch.zeros(0, dtype=torch.long)
        return self.draw(Purpose.EXPLORERS, self.protocol.exploration.count(len(self.problem.clients)))

    @property
    def cohorts(self) -> tuple[tuple[int, ...], ...]:
        """Who takes part, round by round."""
        protocol, clients = self.protocol, len(self.problem.clients)
        own = any(isinstance(attack, ParticipationAttack) for attack in protocol.attack.parts)
        if own or protocol.client_level is not None:
            return tuple(tuple(self.cohort(number).tolist()) for number in range(1, protocol.rounds + 1))
        return public_cohorts(self.seed, protocol.rounds, clients, protocol.cohort, protocol.sampling)

    @cached_property
    def noise_plan(self) -> NoisePlan:
        """What is known of the run beforehand, for a mechanism whose noise follows from it."""
        uploads = Counter(client for cohort in self.cohorts for client in cohort)
        uploads.update(self.explorers.tolist())
        most = max(uploads.values(), default=0)
        return NoisePlan(
            tuple(len(rows) for rows in self.problem.clients), self.protocol.cohort, self.protocol.rounds, most
        )

    def private_steps(self, client: int, round_: int) -> PrivateSteps | None:
        """DP-SGD of this client; None: plain training, as without privacy and for who misbehaves."""
        mechanism = self.protocol.mechanism
        if mechanism is None or bool(self.malicious_in(round_)[client]):
            return None
        return mechanism.steps(self.noise_multipliers[client])

    def draw(self, purpose: Purpose, count: int, *address: int) -> Int[Tensor, " count"]:
        """``count`` of the clients without replacement, in ascending order."""
        return drawn(self.seed, purpose, len(self.problem.clients), count, *address)
