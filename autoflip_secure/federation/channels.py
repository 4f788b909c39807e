"""What clients are asked to send besides their update, and what honest ones measure; :mod:`.channel_rounds` goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import clip_factors
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.client_states import ClientStates
from autoflip_secure.interfaces import (
    UPDATE,
    Channel,
    ChannelRequest,
    ChannelSource,
    ClientJob,
    ClientView,
    Trained,
)
from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.interfaces.channel import At
from autoflip_secure.training import Trainer


def wanted(cell: Cell, round_: int) -> tuple[tuple[Channel, ChannelSource], ...]:
    """The channels of a round, each with who asks for it: the pruner's, then the aggregator's.

    In round 0, before training, they are those of a pruner that prepares.

    Raises:
        InputError: a name is given twice or is that of the update, or a channel has no numbers.
    """
    problem, protocol = cell.problem, cell.protocol
    asked = ChannelRequest(round_, protocol.rounds, problem.layout, problem.units)
    sources = cell.channel_sources if round_ > 0 or protocol.pruner.prepares else ()
    found = [(channel, one) for one in sources[: 1 if round_ == 0 else None] for channel in one.wants(asked)]
    names = [UPDATE, *(channel.name for channel, _ in found)]
    for number, (channel, one) in enumerate(found, 1):
        who = f"{type(one).__name__} asks clients for the channel {channel.name!r}"
        if channel.name in names[:number]:
            raise InputError(f"{who}, a name that is taken; give every channel a name of its own")
        if channel.size < 1:
            raise InputError(f"{who} of size {channel.size}; a channel has at least one number per client")
    return tuple(found)


def accumulating(cell: Cell, jobs: list[ClientJob], round_: int) -> list[ClientJob]:
    """``jobs`` that sum up what somebody asks for in this round."""
    wishes = accumulated(cell, round_)
    return [replace(job, accumulate=wishes) for job in jobs] if wishes else jobs


def accumulated(cell: Cell, *rounds: int) -> frozenset[Accumulated]:
    """What clients sum up while they train, in any of these rounds; no rounds: in any of the run."""
    problem, protocol = cell.problem, cell.protocol
    asking = [one for one in cell.channel_sources if type(one).accumulates is not ChannelSource.accumulates]
    found = frozenset[Accumulated]()
    for number in (rounds or range(1, protocol.rounds + 1)) if asking else ():
        asked = ChannelRequest(number, protocol.rounds, problem.layout, problem.units)
        found = found.union(*(one.accumulates(asked) for one in asking))
    return found


def planned(cell: Cell) -> tuple[tuple[Channel, ...], ...]:
    """The channels of every round from the first: known before the run."""
    return tuple(tuple(c for c, _ in wanted(cell, number)) for number in range(1, cell.protocol.rounds + 1))


def prepared(cell: Cell) -> tuple[Channel, ...]:
    """The channels of round 0, which all clients send before training; () = there is no such round."""
    return tuple(channel for channel, _ in wanted(cell, 0))


def names(cell: Cell) -> tuple[str, ...]:
    """Names of all channels of a run's rounds, in the order in which they first come."""
    return tuple(dict.fromkeys(channel.name for channels in planned(cell) for channel in channels))


@dataclass
class GradientPasses:
    """Gradients of all clients of a block, computed in one program when a cell first asks for them."""

    trainer: Trainer
    cells: Sequence[Cell]
    jobs: Sequence[ClientJob]
    updates: Float[Tensor, "jobs params"]
    masks: Bool[Tensor, "jobs params"] | None  # at the end, where local rules move them
    x: Shaped[Tensor, "rows ..."]  # inputs that the jobs name rows of
    _known: dict[At, Tensor] = field(default_factory=dict)

    def rows(self, rows: slice, used: set[At], at: At) -> Float[Tensor, "clients params"]:
        """Of the jobs in ``rows``; notes in ``used`` that they were asked for."""
        used.add(at)
        if at not in self._known:
            problem, schedule = self.cells[0].problem, self.cells[0].protocol.training
            jobs = list(self.jobs)
            if at == "end":
                pairs = zip(jobs, self.updates, strict=True)
                jobs = [replace(j, start=_masked(j) + update.to(j.start.device)) for j, update in pairs]
                if self.masks is not None:
                    jobs = [replace(j, mask=mask) for j, mask in zip(jobs, self.masks, strict=True)]
            self._known[at] = self.trainer.gradients(problem.module, problem.layout, self.x, jobs, schedule)
        return self._known[at][rows]


def _masked(job: ClientJob) -> Tensor:
    return job.start if job.mask is None else job.start * job.mask


@dataclass(frozen=True)
class Measured:
    """The honest rows of a cell's channels in one round."""

    channels: tuple[Channel, ...] = ()
    rows: Mapping[str, Float[Tensor, "clients _"]] = field(default_factory=dict)
    passes: int = 0  # over the clients' data, forward and backward, for gradients


def measure(cells: Sequence[Cell], round_: int, plans: Sequence[tuple[Tensor, list[ClientJob]]], trained: Trained,
            trainer: Trainer, x: Shaped[Tensor, "rows ..."], kept: Sequence[ClientStates | None] = (),
            ) -> list[Measured]:  # fmt: skip
    """The honest rows of every cell's channels; then clients write down what they are to remember.

    Args:
        cells: of a block.
        plans: per cell, who takes part and what they trained.
        trained: all their honest training.
        x: inputs that their jobs name rows of.
        kept: what the clients of each cell remember; (): nobody does.

    Raises:
        InputError: a measure, or what is remembered, has another shape than it should.
    """
    asked, memories = [wanted(cell, round_) for cell in cells], kept or [None] * len(cells)
    looking = [
        bool(channels) or (memory is not None and any(source.rows_kept for source in cell.channel_sources))
        for cell, channels, memory in zip(cells, asked, memories, strict=True)
    ]
    if not any(looking):
        return [Measured()] * len(cells)
    having = [jobs for (_, jobs), looks in zip(plans, looking, strict=True) if looks]
    found, start, first = list[Measured](), 0, 0
    own, chosen = list[slice](), list[slice]()
    for (_, jobs), looks in zip(plans, looking, strict=True):
        own.append(slice(start, start := start + len(jobs)))
        chosen.append(slice(first, first := first + len(jobs) * looks))
    places = [rows for rows, looks in zip(own, looking, strict=True) if looks]
    updates, ends = torch.cat([trained.updates[rows] for rows in places]), trained.masks
    masks = None if ends is None else torch.cat([ends[rows] for rows in places])
    passes = GradientPasses(trainer, cells, [job for jobs in having for job in jobs], updates, masks, x)
    for cell, (clients, jobs), channels, mine, rows, memory, looks in zip(
        cells, plans, asked, own, chosen, memories, looking, strict=True
    ):
        if not looks:
            found.append(Measured())
            continue
        used = set[At]()
        seen = _view(cell, clients, jobs, trained, mine, round_, partial(passes.rows, rows, used), memory)
        measured = {channel.name: _honest(channel, one, seen) for channel, one in channels}
        if memory is not None:
            _remember(cell, seen, memory)
        found.append(Measured(tuple(channel for channel, _ in channels), measured, len(used)))
    return found


def _view(cell: Cell, clients: Tensor, jobs: list[ClientJob], trained: Trained, mine: slice, round_: int,
          gradients_at: object, memory: ClientStates | None) -> ClientView:  # fmt: skip
    problem, like = cell.problem, (updates := trained.updates[mine])
    names = [] if memory is None else [name for source in cell.channel_sources for name in source.rows_kept]
    start = torch.stack([_masked(job) for job in jobs]) if jobs else torch.zeros_like(like)
    everything = torch.ones_like(like[:1].sum(0), dtype=torch.bool)
    masks = [everything if job.mask is None else job.mask for job in jobs]
    return ClientView(
        round=round_,
        rounds=cell.protocol.rounds,
        clients=clients.to(like.device),
        samples=torch.tensor([len(job.samples) for job in jobs], dtype=like.dtype, device=like.device),
        start=start,
        updates=updates,
        mask=torch.stack(masks) if jobs else torch.zeros_like(like, dtype=torch.bool),
        layout=problem.layout,
        units=problem.units,
        gradients_at=gradients_at,  # type: ignore[arg-type]
        sums={name: trained.sums[name][mine] for name in accumulated(cell, round_) if name in trained.sums},
        states={} if memory is None else {name: memory.read(name, clients.tolist()) for name in names},
        schedule=cell.protocol.training.in_round(max(round_, 1)),
    )


def _remember(cell: Cell, seen: ClientView, memory: ClientStates) -> None:
    """Each participant writes down what it is to keep."""
    for source in cell.channel_sources:
        rows = source.next_rows(seen) if source.rows_kept and len(seen.clients) else {}
        for name, values in rows.items():
            like = seen.states.get(name) if name in source.rows_kept else None
            if like is None or values.shape != like.shape or values.dtype != like.dtype:
                raise InputError(
                    f"{type(source).__name__}: next_rows gives {name!r} of shape {tuple(values.shape)} and "
                    f"{values.dtype}; give a row per client for names that it remembers: {', '.join(source.rows_kept)}"
                )
            memory.write(name, seen.clients.tolist(), values)


def _honest(channel: Channel, source: ChannelSource, seen: ClientView) -> Float[Tensor, "clients size"]:
    """Measured, and clipped to the bound by each client itself."""
    shape = (len(seen.clients), channel.size)
    rows = source.measure(channel, seen) if shape[0] else seen.updates.new_zeros(shape)
    if rows.shape != shape or rows.dtype != seen.updates.dtype:
        raise InputError(
            f"{type(source).__name__}: measure of the channel {channel.name!r} gives shape {tuple(rows.shape)} and "
            f"{rows.dtype}, expected {shape} and {seen.updates.dtype}: a row per client, as long as the channel"
        )
    if channel.bound is None:
        return rows
    wide = rows.double()
    return (wide * clip_factors(wide.norm(dim=1, keepdim=True), channel.bound)).to(rows)
