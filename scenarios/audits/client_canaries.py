"""Client level: the runs that attackers look at, in which every client sends the canary that it was given.

Everything but the local training, and what clients measure for channels, is the federation's own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import (
    Channel,
    ChannelRequest,
    ChannelSource,
    ClientJob,
    ClientView,
    Trained,
    TrainingSchedule,
)
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer

LENGTH: Final = 1e3
"""Of a canary, in clip norms: the clip must act on every one."""

Directions = Mapping[tuple[str, int], Tensor]
"""Channel by name and size -> where the canary of each client shows (clients, size), of length 1."""


@dataclass(frozen=True)
class Planted:
    """Rows of canaries in every channel."""

    known: Directions
    signs: Tensor  # (clients,): 1 in, 0 or -1 out

    def sources(self, asking: Sequence[ChannelSource]) -> tuple[ChannelSource, ...]:
        """Those who ask, with canaries for what clients would measure."""
        return tuple(_PlantedSource(asking=one, planted=self) for one in asking)


class _PlantedSource(ChannelSource):
    """Asks for what another asks for."""

    asking: ChannelSource
    planted: Any  # Planted

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        """As the other."""
        return self.asking.wants(asked)

    def measure(self, channel: Channel, view: ClientView) -> Tensor:
        """The clients' canaries, far longer than the bound."""
        assert channel.bound is not None, "only then something is proven"
        rows = self.planted.known[channel.name, channel.size] * self.planted.signs[:, None]
        found: Tensor = LENGTH * channel.bound * rows[view.clients]
        return found


@dataclass(frozen=True)
class Rerun(Cell):
    """The same malicious clients, and the same cohorts where they are public; secrets are drawn at the new seed."""

    original: Cell | None = None
    secret_cohorts: bool = False
    absent: frozenset[int] = frozenset()
    planted: Planted | None = None

    @property
    def channel_sources(self) -> tuple[ChannelSource, ...]:
        """Canaries for what clients measure."""
        return super().channel_sources if self.planted is None else self.planted.sources(super().channel_sources)

    @cached_property
    def malicious_clients(self) -> Bool[Tensor, " clients"]:
        """Those of the attacked run."""
        assert self.original is not None
        return self.original.malicious_clients

    def cohort(self, round_: int) -> Int[Tensor, " cohort"]:
        """Those of the attacked run, or drawn anew; without who is absent."""
        assert self.original is not None
        drawn = self._drawn_anew(round_) if self.secret_cohorts else self.original.cohort(round_)
        return torch.tensor([k for k in drawn.tolist() if k not in self.absent], dtype=torch.long)

    def _drawn_anew(self, round_: int) -> Int[Tensor, " cohort"]:
        """Where participants bring the noise, as many honest ones as there were: the proof is given their number."""
        assert self.original is not None
        if self.protocol.visibility.noise != "distributed":
            return super().cohort(round_)
        before, malicious = self.original.cohort(round_), self.malicious_clients
        loyal = (~malicious).nonzero().squeeze(1)
        order = torch.randperm(len(loyal), generator=generator(self.seed, Purpose.COHORT, round_))
        honest = loyal[order[: int((~malicious[before]).sum())]]
        return torch.cat([before[malicious[before]], honest]).sort().values


class Canaries(Trainer):
    """Instead of training, every client of every run sends the row that it was given."""

    kind = "stacked"

    def __init__(self, known: Tensor, lengths: dict[int, Tensor]) -> None:
        """``known`` (clients, params): the canaries; ``lengths``: seed of a run -> (clients,)."""
        super().__init__("canaries", known.device)
        self.known, self.lengths = known, lengths

    def train(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: TrainingSchedule
    ) -> Trained:
        """The rows of the jobs' clients."""
        losses = torch.zeros(len(jobs), schedule.epochs, device=self.device)
        clients = torch.tensor([job.address[1] for job in jobs], dtype=torch.long, device=self.device)
        lengths = [self.lengths[job.seed][job.address[1]] for job in jobs]
        return Trained(self.known[clients] * torch.tensor(lengths, device=self.device)[:, None], losses)

    def gradients(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: TrainingSchedule
    ) -> Tensor:
        """Zeros: nobody has data."""
        return torch.zeros(len(jobs), layout.size, device=self.device)
