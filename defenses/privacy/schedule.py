"""What a run will release, as far as privacy is concerned: known before it begins; nothing in it depends on data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import planned, prepared
from autoflip_secure.federation.visibility import post_processing_of
from autoflip_secure.interfaces import RowAttack
from autoflip_secure.interfaces.base import called


@dataclass(frozen=True)
class ReleaseSchedule:
    """What a run will release, as far as privacy is concerned. Nothing in it depends on data."""

    unit: Literal["sample", "client"]
    samples: tuple[int, ...]  # n_k
    honest: tuple[int, ...]  # clients that are asked about; none that ever misbehaves
    noise_multipliers: tuple[float, ...]  # per client
    delta: float | None  # None: a tenth of 1/n
    batch_size: int
    epochs: int
    rounds: tuple[tuple[int, ...], ...]  # participants of each round
    loyal: frozenset[int]  # all who never misbehave: their noise counts, and among them a participant hides
    explorers: tuple[int, ...]  # () without exploration
    exploration_epochs: int
    early_stopping: bool  # of explorers, by a loss without noise
    sampling: Literal["fixed", "poisson"]
    cohort: int
    noise: Literal["central", "distributed"]
    exploration_noise_multiplier: float
    linear: bool  # the aggregate is a plain sum of rows
    post_processing: tuple[str, ...]  # what is computed from releases
    secure_sum: bool = False  # the server sees sums of updates only
    foreign: str = ""  # kind of a mechanism that is not of this package
    channels: tuple[tuple[str, ...], ...] = ()  # per round, names of what is sent beside the update; () = never
    prepared: tuple[str, ...] = ()  # names of what all clients send before training; () = nothing
    unproven: str = ""  # why what the mechanism claims is no guarantee
    claimed: tuple[float, float] | None = None  # (epsilon, delta) of that claim
    informed: tuple[str, ...] = ()  # attacks that are shown honest clients' rows as trained, without noise
    remembered: tuple[str, ...] = ()  # what clients keep from the rounds that they take part in, and send later
    earlier: tuple[ReleaseSchedule, ...] = ()  # attempts under other conditions: other draws, so other releases

    @property
    def amplified(self) -> bool:
        """Whether secret cohorts hide who was drawn: of a fixed number only if what a client sends does not depend on
        the rounds that it was in before, as what it remembers does (:mod:`.cohort_views`)."""
        return self.sampling == "poisson" or not self.remembered

    def loyal_in(self, number: int) -> int:
        """How many participants of round ``number`` (from 1) never misbehave."""
        return self._loyal_in[number - 1]

    def beside(self, number: int) -> tuple[str, ...]:
        """Names of what is sent beside the update in round ``number`` (from 1)."""
        return self.channels[number - 1] if self.channels else ()

    def by_channels(self, numbers: Sequence[int]) -> dict[tuple[str, ...], list[int]]:
        """Rounds ``numbers`` by what is sent beside the update in them, in their order."""
        found: dict[tuple[str, ...], list[int]] = {}
        for number in numbers:
            found.setdefault(self.beside(number), []).append(number)
        return found

    def between(self, before: int, last: int) -> ReleaseSchedule:
        """Rounds ``before`` + 1 to ``last`` alone; what came before training, and earlier attempts, belong before the
        first."""
        first = last == 0
        return replace(
            self,
            rounds=self.rounds[before:last],
            channels=self.channels[before:last],
            explorers=self.explorers if first else (),
            prepared=self.prepared if first else (),
            earlier=self.earlier if first else (),
        )

    def rounds_of(self, client: int) -> list[int]:
        """Rounds that ``client`` takes part in, ascending from 1."""
        return self._rounds_of.get(client, [])

    @cached_property
    def _loyal_in(self) -> list[int]:
        return [len(self.loyal.intersection(cohort)) for cohort in self.rounds]

    @cached_property
    def _rounds_of(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for number, cohort in enumerate(self.rounds, 1):
            for client in cohort:
                found.setdefault(client, []).append(number)
        return found


def schedule_of(cell: Cell) -> ReleaseSchedule:
    """The schedule of a cell whose noise multipliers are known."""
    protocol, problem = cell.protocol, cell.problem
    mechanism, visibility = protocol.mechanism, protocol.visibility
    assert mechanism is not None
    malicious: Iterable[set[int]] = (
        set(cell.malicious_in(number).nonzero().squeeze(1).tolist()) for number in range(protocol.rounds + 1)
    )
    ever = set().union(*malicious)
    loyal = tuple(k for k in range(len(problem.clients)) if k not in ever)
    extra = mechanism.exploration_multiplier
    beside = tuple(tuple(channel.name for channel in channels) for channels in planned(cell))
    before = tuple(channel.name for channel in prepared(cell))
    return ReleaseSchedule(
        unit=mechanism.unit,
        samples=tuple(len(rows) for rows in problem.clients),
        honest=loyal,
        noise_multipliers=cell.noise_multipliers,
        delta=mechanism.delta,
        batch_size=protocol.training.batch_size,
        epochs=protocol.training.epochs,
        rounds=cell.cohorts,
        loyal=frozenset(loyal),
        explorers=tuple(cell.explorers.tolist()),
        exploration_epochs=protocol.exploration.epochs,
        early_stopping=protocol.exploration.patience is not None,
        sampling=protocol.sampling,
        cohort=protocol.cohort,
        noise="central" if visibility.noise == "central" else "distributed",
        exploration_noise_multiplier=cell.noise_multipliers[0] if extra is None else extra,
        linear=protocol.aggregator.one_sum,
        post_processing=tuple(post_processing_of(protocol, channels=any((*beside, before)))),
        secure_sum=visibility.secret,
        channels=beside if any(beside) else (),
        prepared=before,
        foreign=str(getattr(mechanism, "kind", "")) if mechanism.foreign else "",
        unproven=mechanism.unproven,
        claimed=mechanism.claimed,
        informed=_informed(cell, before),
        remembered=tuple(dict.fromkeys(name for source in cell.channel_sources for name in source.rows_kept)),
    )


def _informed(cell: Cell, prepared: Sequence[str]) -> tuple[str, ...]:
    """Kinds of the attacks that are shown rows of honest clients before anything is noised."""
    protocol = cell.protocol
    rounds = range(0 if protocol.explores or prepared else 1, protocol.rounds + 1)
    acting = (one for number in rounds for one in cell.attacking(RowAttack, number))  # type: ignore[type-abstract]
    kinds = (
        called(attack)
        for _, attack, malicious in acting
        if attack.threat_card.knowledge in ("rows", "defence") and bool(malicious.any())
    )
    return tuple(dict.fromkeys(kinds))
