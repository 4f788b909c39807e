"""What a pruner is asked, and with what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.interfaces.aggregation import Aggregator
from autoflip_secure.interfaces.channel import Received
from autoflip_secure.interfaces.channel_source import ChannelSource
from autoflip_secure.interfaces.known_attacks import Known
from autoflip_secure.interfaces.landscape import Exploration, Guidance
from autoflip_secure.interfaces.local_rule import LocalRule, NoLocalRule
from autoflip_secure.interfaces.lone_training import LoneStage, LoneView
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import Units


@dataclass(frozen=True)
class PruneView:
    """What a pruner may look at."""

    layout: Layout
    units: Units | None  # what may be taken out as a whole; None: unknown
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]  # current; all True at the start; of a pruner that collects: what somebody holds
    exploration: Exploration | None
    guidance: Guidance | None
    round: int  # 0: before training
    rounds: int
    generator: Callable[..., torch.Generator]  # generator(*address below PRUNING)
    normalisation: str = "sqrt_q99"  # of guidance
    channels: Mapping[str, Received] = field(default_factory=dict)  # what clients sent besides in this round
    memory: Mapping[str, Tensor] = field(default_factory=dict)  # what the pruner remembers; empty before round 0
    #: multiply-adds per weight and sample of each weight tensor, by name, counted when asked for (``needs_costs``)
    multiply_adds: Callable[[], Mapping[str, float]] = dict
    again: bool = False  # explorers have just explored again, from ``weights``: the mask is drawn anew, from all True

    @property
    def fresh(self) -> bool:
        """Whether a mask is drawn from an exploration: before training, and when explorers explored again."""
        return self.round == 0 or self.again


@dataclass(frozen=True)
class ClientPruneView:
    """What a client may look at when it decides about its own mask: what it holds, and its own training rows.

    Held-out rows are not among them: what is tested on must not have been decided on.
    """

    layout: Layout
    units: Units | None  # what may be taken out as a whole; None: unknown
    client: int
    weights: Float[Tensor, " params"]  # the global ones, as the server would send them under no mask
    initial: Float[Tensor, " params"]  # w_0: before any training, the same for all clients
    mask: Bool[Tensor, " params"]  # the client's; all True before its first round
    accuracy: float | None  # of weights · mask on its training rows, labels as it sees them; None: not asked for
    states: Mapping[str, Tensor]  # the named rows that it keeps, as it left them; zero at first
    round: int  # from 1
    rounds: int
    generator: Callable[..., torch.Generator]  # generator(*address below (CLIENT_MASK, round, client))
    known: Bool[Tensor, " params"] | None = None  # where masks are trained: what enough clients held in some round


@dataclass(frozen=True)
class ClientEndView:
    """What a client may look at when it decides about its own mask after it has trained: its own training rows."""

    layout: Layout
    units: Units | None  # of the model; None: unknown
    client: int
    mask: Bool[Tensor, " params"]  # that it holds now
    start: Float[Tensor, " params"]  # weights before local training, zero where not held
    snapshot: Float[Tensor, " params"] | None  # after the epoch that :meth:`Pruner.snapshot` names; None: no epoch
    end: Float[Tensor, " params"]  # after it
    accuracy: float | None  # of ``end`` on its training rows, labels as it sees them; None: not asked for
    round: int  # from 1
    rounds: int
    generator: Callable[..., torch.Generator]  # generator(*address below (CLIENT_MASK, round, client, 0))


@dataclass(frozen=True)
class OwnMask:
    """What a client decides before it trains."""

    mask: Bool[Tensor, " params"]  # from now on; also the one that its update is sent under
    start: Float[Tensor, " params"]  # what its training begins from; taken as zero where the mask is False
    states: Mapping[str, Tensor] = field(default_factory=dict)  # rows to keep for its next round; others stay


class Pruner(ChannelSource, ABC):
    """Decides which coordinates live: for everybody (:meth:`mask`) or, with ``own``, each client for itself.

    With ``collects`` there is one mask, which a local rule moves in each client, and :meth:`mask` makes one of all.
    """

    needs_guidance: ClassVar[bool] = False
    needs_units: ClassVar[bool] = False  # removes whole units, so it has nothing to do where they are unknown
    needs_explorers: ClassVar[bool] = False  # looks at what single explorers sent, not at the landscape alone
    own: ClassVar[bool] = False  # every client has a mask of its own: :meth:`client_mask`
    prepares: ClassVar[bool] = (
        False  # all clients send the channels of round 0 before training; `wants` is asked for it
    )
    dense_gradients: ClassVar[bool] = False  # what it measures are gradients of pruned weights, too, which cost more
    collects: ClassVar[bool] = False  # clients move the mask that all share while they train; theirs come back for one
    # round, and :meth:`mask` is shown all that somebody held
    draws_again: ClassVar[bool] = False  # draws its mask anew whenever ``view.fresh``, so explorers may explore again
    needs_accuracy: ClassVar[bool] = False  # an own mask depends on the accuracy on the client's training rows
    #: masked weights keep their value on the server, are what ``view.weights`` has, and come back with their mask
    keeps_masked: ClassVar[bool] = False
    #: what tells a participant of a mask that it was not sent before, on the way down: nothing (it is taken to know
    #: it, unless weights return: then a bit for every prunable weight), that bit always, or a bit for every hidden unit
    mask_sent: ClassVar[Literal["nothing", "weights", "units"]] = "nothing"
    needs_end_accuracy: ClassVar[bool] = False  # the same, after local training: :meth:`client_mask_after`
    known_by: ClassVar[Known] = ()  # attacks that know it

    @property
    def needs_costs(self) -> bool:
        """Whether it asks for ``view.multiply_adds``, so models whose operations are not known are refused."""
        return False

    @property
    def tests_whole(self) -> bool:
        """Whether what is tested and kept is the model with all weights that the server has (``keeps_masked``)."""
        return False

    @property
    def begins_alone(self) -> bool:
        """Whether one client, drawn by seed, trains alone before round 1: :meth:`lone_stage`."""
        return False

    @property
    def lone_samples(self) -> int | None:
        """How many of its rows that client trains on, drawn by seed; None: all."""
        return None

    def lone_stage(self, view: LoneView) -> LoneStage:
        """What the client that begins alone trains next. At the end its weights and its mask are everybody's."""
        raise NotImplementedError(f"{type(self).__name__} begins alone without a `lone_stage`")

    @property
    def several_masks(self) -> bool:
        """Whether clients may hold different coordinates when they send."""
        return self.own or self.collects

    @abstractmethod
    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The mask from now on; ``view.mask`` itself when nothing changes in this round.

        ``view.memory`` is what :meth:`remember` gave in this round.
        """

    def remember(self, view: PruneView) -> Mapping[str, Tensor]:
        """Named tensors that the server keeps for the pruner's next round, asked before :meth:`mask`, from round 0 on.

        State in, state out: ``view.memory`` is not changed in place. Default: it stays as it is, which is nothing.
        """
        return view.memory

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """Weights after the mask went from ``old`` to ``new``. Default: what is masked becomes zero, nothing else."""
        return weights * new

    def client_mask(self, view: ClientPruneView) -> OwnMask:
        """A client's own mask in this round; asked of pruners with ``own`` only. Default: it keeps what it has."""
        return OwnMask(view.mask, view.weights)

    def snapshot(self, epochs: int) -> int | None:
        """The epoch of local training, below ``epochs``, after which a client notes its weights; None: it does not."""
        return None

    @property
    def decides_after(self) -> bool:
        """Whether :meth:`client_mask_after` has a say."""
        return self.own and type(self).client_mask_after is not Pruner.client_mask_after

    def client_mask_after(self, view: ClientEndView) -> Bool[Tensor, " params"]:
        """A client's own mask after local training; what goes is not sent. Default: it keeps what it has."""
        return view.mask


def guided(pruner: Pruner, aggregator: Aggregator) -> bool:
    """Whether there is guidance, which evolves from round to round."""
    return pruner.needs_guidance or aggregator.needs_guidance


def explores(pruner: Pruner, aggregator: Aggregator, rule: LocalRule | NoLocalRule) -> bool:
    """Whether phase 1 is needed: FedAvg does not pay for it."""
    return guided(pruner, aggregator) or (isinstance(rule, LocalRule) and rule.needs_exploration)
