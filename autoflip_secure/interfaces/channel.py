"""What clients send in a round besides their update: a named row each, declared before the round.

A pruner or an aggregator says in ``wants`` which channels it needs, and in ``measure`` how a client computes its row.
How the rows travel (in the open, clipped and noised, in shares) is the framework's business: it maps attack, finite
filter, privacy, wire, secure sum, ledger and record over channels as over updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.interfaces.schedule import TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import Units

UPDATE: Final = "update"
"""Name of the channel that every client sends in every round."""
At = Literal["start", "end"]
"""Before or after a round's local training."""


@dataclass(frozen=True)
class Channel:
    """One named row that each participant sends beside its update."""

    name: str
    size: int  # numbers per client, at least 1
    needs: Literal["sum", "rows"] = "sum"  # what the server must learn of it
    bound: float | None = None  # largest L2 norm of an honest client's row, which clips to it; None: unbounded
    bits: Literal[1, 16, 32] = 32  # on the wire, per number: 0 or 1, half precision, single precision


@dataclass(frozen=True)
class ChannelRequest:
    """What a plug-in knows when it says what it wants: nothing that depends on data, for the ledger asks it too."""

    round: int  # from 1; 0: before training, asked of pruners with ``prepares`` alone
    rounds: int
    layout: Layout
    units: Units | None  # of the model; None when they are unknown


@dataclass(frozen=True)
class ClientView:
    """What the participants of a round know when they measure a channel; row k of everything is one client's own."""

    round: int
    rounds: int
    clients: Int[Tensor, " clients"]
    samples: Float[Tensor, " clients"]  # n_k
    start: Float[Tensor, "clients params"]  # weights before local training, zero where masked
    updates: Float[Tensor, "clients params"]  # of honest training; an attack on updates comes later
    mask: Bool[Tensor, "clients params"]  # when local training began
    layout: Layout
    units: Units | None  # of the model; None when they are unknown
    gradients_at: Callable[[At], Float[Tensor, "clients params"]] = field(repr=False)
    sums: Mapping[Accumulated, Float[Tensor, "clients params"]] = field(default_factory=dict, repr=False)
    states: Mapping[str, Tensor] = field(default_factory=dict, repr=False)  # rows that each keeps; zero (True) at first
    schedule: TrainingSchedule = field(default_factory=TrainingSchedule)  # of their local training in this round

    @property
    def processed(self) -> Float[Tensor, " clients"]:
        """q_k: samples that each client processed in this round, every one of its own once an epoch."""
        return self.samples * self.schedule.epochs

    @property
    def steps(self) -> Float[Tensor, " clients"]:
        """Local steps that each client took in this round."""
        return self.schedule.epochs * (self.samples / self.schedule.batch_size).ceil()

    def gradient_sum(self) -> Float[Tensor, "clients params"]:
        """Sum of each client's mini-batch gradients over the steps of its local training: dense, in training mode.

        Only where the source ``accumulates`` "gradients" in this round; it costs no pass over the data.
        """
        return self.sums["gradients"]

    def squared_gradient_sum(self) -> Float[Tensor, "clients params"]:
        """The same of squared mini-batch gradients, where the source ``accumulates`` "squares"."""
        return self.sums["squares"]

    def gradients(self, at: At = "start") -> Float[Tensor, "clients params"]:
        """Mean gradient of the loss over each client's own samples, with the labels that it sees.

        Dense (at masked coordinates too), in evaluation mode, before or after local training. Computed when it is first
        asked for, and counted as one more pass over the data.
        """
        return self.gradients_at(at)


@dataclass(frozen=True)
class Received:
    """What the server learned of a channel in a round.

    ``mean`` is weighted with the clients' numbers of samples; at client level, where those stay with the clients, it is
    the noised sum over the expected number of participants. It knows nothing of trust: a client counts by its samples.
    """

    mean: Float[Tensor, " size"]
    rows: Float[Tensor, "clients size"] | None = None  # None: the channel needs no more than its sum
    clients: Int[Tensor, " clients"] | None = None  # whose rows they are
    samples: Float[Tensor, " clients"] | None = None  # n_k of those
