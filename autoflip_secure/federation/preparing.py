"""Round 0 of pruners that prepare: before training all clients measure what the first mask is made of, and send it.

The channels take the way of any other round's: data attack, measured by honest clients, attacked, protected, filtered,
through the wire or the parties, to the server. Updates there are none, and no cohort is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channel_rounds import delivered, sent_beside
from autoflip_secure.federation.channels import Measured, measure, prepared
from autoflip_secure.federation.clients import Usable, client_jobs
from autoflip_secure.federation.exploring import Sums
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import Channel, Received, Trained
from autoflip_secure.secure_rows.secure_sum import SecureTransfer
from autoflip_secure.training import Trainer


@dataclass(frozen=True)
class Preparation:
    """What round 0 brought; lists run over the participants."""

    participants: list[int]
    malicious: list[bool]
    rejected: list[int]
    channels: tuple[Channel, ...]
    received: Mapping[str, Received]
    channel_transfers: Mapping[str, SecureTransfer]
    passes: int  # over the participants' data, to measure with
    samples: int  # of all participants, one pass
    events: tuple[str, ...]


def prepare(cell: Cell, trainer: Trainer, watch: Watcher, sums: Sums, inputs: PoisonedInputs) -> Preparation | None:
    """Round 0 of one cell, so that only one cell's rows are in memory; None: nobody asks for it."""
    if not prepared(cell):
        return None
    clients = torch.arange(len(cell.problem.clients))
    measured = measured_before(cell, cell.problem.initial, clients, trainer, inputs)
    return preparation(cell, clients, measured, watch, sums)


def measured_before(cell: Cell, start: Tensor, clients: Tensor, trainer: Trainer, inputs: PoisonedInputs) -> Measured:
    """The clients' side: the honest rows of what ``clients`` send before training, at the weights ``start``."""
    jobs = client_jobs(cell, start, torch.ones_like(start, dtype=torch.bool), clients, 0)
    x, [(clients, jobs)] = inputs.of_round([cell], 0, [(clients, jobs)])
    nothing = start.new_zeros(len(jobs), len(start))
    (measured,) = measure([cell], 0, [(clients, jobs)], Trained(nothing, nothing[:, :1]), trainer, x)
    return measured


def preparation(cell: Cell, clients: Tensor, measured: Measured, watch: Watcher, sums: Sums) -> Preparation:
    """The server's side: what comes of the rows of ``clients``."""
    own = sent_beside(cell, clients, measured, 0)
    nothing = cell.problem.initial.new_zeros(len(clients), len(cell.problem.initial))
    brought = delivered(cell, clients, own, nothing, sums(cell), 0)
    received, (usable,) = brought.received or {}, Usable.of(brought.usable)
    if cell.protocol.visibility.server == "rows":
        here = usable.chosen(clients.to(usable.flags.device))
        rows = {name: usable.chosen(row) for name, row in own.rows.items()}
        watch.prepared(cell, here, rows, {name: found.mean for name, found in received.items()})
    said = [*brought.events]
    said += [] if usable.everyone else own.unusable(clients)
    said += [] if received else ["nobody's row can be used: the pruner has nothing to go by"]
    return Preparation(
        participants=clients.tolist(),
        malicious=cell.malicious_in(0)[clients].tolist(),
        rejected=usable.others(clients.tolist()),
        channels=measured.channels,
        received=received,
        channel_transfers=brought.transfers,
        passes=measured.passes,
        samples=sum(len(cell.problem.clients[k]) for k in clients.tolist()),
        events=tuple(f"before training: {event}" for event in said),
    )
