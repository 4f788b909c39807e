"""A client of the engine as an app of Flower: it trains as the simulated client of its number does.

Weights, mask and what the local rule sends come with the message; batches are drawn at the engine's address (round,
client) of the seed. What a node keeps between messages is what it is sent once: frozen parameters, and the last
broadcast of a local rule. A node that lost them says so, and is sent them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.federation.attacking import attack_updates
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channel_rounds import sent_beside
from autoflip_secure.federation.channels import Measured, measure
from autoflip_secure.federation.clients import stated_samples
from autoflip_secure.federation.exploring import Phase, trained_explorers
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.federation.preparing import measured_before
from autoflip_secure.federation.server import round_jobs
from autoflip_secure.federation.state import ServerState
from autoflip_secure.flower import messages
from autoflip_secure.flower.agreed import Federation
from autoflip_secure.flower.messages import Sent, Told

Load = Callable[[Context], tuple[Any, Any]]
"""What a client trains on: inputs (n, ...) and labels (n,), as tensors or numpy arrays, the same in every round."""
_KEPT = "autoflip-secure"  # where a node keeps what it is sent once


def partition_id(context: Context) -> int:
    """The number of a client as Flower gives it: ``partition-id`` of the node's configuration.

    Raises:
        InputError: there is none.
    """
    found = context.node_config.get("partition-id")
    if not isinstance(found, int):
        raise InputError("does not know which client it is; start flower-supernode with --node-config 'partition-id=0'")
    return found


def client_app(
    federation: Federation | Callable[[Context], Federation],
    load: Load | None = None,
    *,
    number: Callable[[Context], int] = partition_id,
    mods: Sequence[Any] = (),
) -> ClientApp:
    """The app that every node runs.

    Args:
        federation: what was agreed on, or what gives it for a node's context, whose ``run_config`` may say more.
        load: called with Flower's context for every message; None: the scenario's own split.
        number: which client a node is, from 0.
        mods: of Flower; those that change arrays find none that they know, and fail.
    """
    app = ClientApp(mods=list(mods))

    def answering(do: Callable[[_Client, RecordDict], RecordDict]) -> Callable[[Message, Context], Message]:
        def answer(message: Message, context: Context) -> Message:
            try:
                agreed = federation if isinstance(federation, Federation) else federation(context)
                client = _Client(agreed, load, number(context), context)
                content = do(client, client.checked(message.content))
            except AutoflipError as error:
                content = messages.complaint(str(error))
            return Message(content, reply_to=message)

        return answer

    app.query("meet")(answering(_Client.meet))
    app.train("explore")(answering(_Client.explore))
    app.train("prepare")(answering(_Client.prepare))
    app.train("round")(answering(_Client.round))
    return app


class _Client:
    """One client while it answers one message."""

    def __init__(self, federation: Federation, load: Load | None, number: int, context: Context) -> None:
        if not 0 <= number < federation.clients:
            raise InputError(f"says that it is client {number}; clients are 0 to {federation.clients - 1}")
        self.federation, self.kit, self.number, self.context = federation, federation.kit, number, context
        x, y = federation.rows_of(number) if load is None else load(context)
        self.cell: Cell = federation.client_cell(number, *federation.rows_like(x, y, f"client {number}"))
        self.who = torch.tensor([number])

    def checked(self, content: RecordDict) -> RecordDict:
        """A message of this federation.

        Raises:
            InputError: it is of another one.
        """
        if (theirs := messages.federation_of(content)) != self.federation.digest:
            raise InputError(
                f"runs the federation {self.federation.digest}, and the server {theirs or 'none that it names'}: give "
                "both sides the same scenario, seed, model and version of autoflip-secure"
            )
        return content

    def meet(self, content: RecordDict) -> RecordDict:
        """Who it is."""
        return messages.greeting(self.number, int(self.cell.owned(self.who)))

    def explore(self, content: RecordDict) -> RecordDict:
        """Phase 1: the deviation after a longer, dense training."""
        told, layout = self._told(content), self.kit.layout
        everywhere = torch.ones_like(told.mask)
        phase = Phase(told.round, told.weights)
        [(_, [explorer])] = trained_explorers(
            [self.cell], [phase], [self.who], self.kit.trainer, PoisonedInputs([self.cell])
        )
        deviation = attack_updates(
            self.cell, explorer.deviation[None], self.who, everywhere, told.round, told.weights
        ).rows[0]
        found = self._sent(told.round, deviation, explorer.losses, Measured())
        return messages.send(found, everywhere, layout, ())

    def prepare(self, content: RecordDict) -> RecordDict:
        """What all clients measure before training."""
        told = self._told(content)
        inputs = PoisonedInputs([self.cell])
        measured = measured_before(self.cell, told.weights, self.who, self.kit.trainer, inputs)
        return messages.send(self._sent(0, None, [], measured), told.mask, self.kit.layout, measured.channels)

    def round(self, content: RecordDict) -> RecordDict:
        """Local training."""
        told, cell, kit = self._told(content), self.cell, self.kit
        before = ServerState(
            round=told.round - 1, weights=told.weights, mask=told.mask, exploration=None, guidance=None,
            aggregator=None, broadcast=told.broadcast,
        )  # fmt: skip
        jobs = round_jobs(cell, before, self.who)
        schedule = cell.protocol.training.in_round(told.round)
        x = cell.problem.x_train
        trained = kit.trainer.train(kit.module, kit.layout, x, jobs, schedule)
        [measured] = measure([cell], told.round, [(self.who, jobs)], trained, kit.trainer, x)
        update = attack_updates(cell, trained.updates, self.who, told.mask, told.round, told.weights).rows[0]
        found = self._sent(told.round, update, trained.losses[0, -1:].tolist(), measured)
        return messages.send(found, told.mask, kit.layout, measured.channels)

    def _sent(
        self, round_: int, update: Float[Tensor, " params"] | None, losses: list[float], measured: Measured
    ) -> Sent:
        """What it sends, as a malicious client changes it."""
        beside = sent_beside(self.cell, self.who, measured, round_)
        samples = int(stated_samples(self.cell, self.who, round_))
        rows = {name: found[0] for name, found in beside.rows.items()}
        return Sent(self.number, samples, update, losses, rows, measured.passes)

    def _told(self, content: RecordDict) -> Told:
        """The message, with what came in an earlier one; and what comes once is kept.

        Raises:
            InputError: the message is damaged, or something did come earlier and is gone.
        """
        layout = self.kit.layout
        told = messages.told(content, layout)
        kept = dict(self.context.state.array_records.get(_KEPT, ArrayRecord()))
        frozen = layout.frozen
        if told.first:
            kept["frozen"] = Array(told.weights[frozen].numpy())
        if told.broadcast is not None:
            kept["broadcast"] = Array(told.broadcast.numpy())
        self.context.state[_KEPT] = ArrayRecord(kept)
        needs = ["frozen"] * bool(frozen.any()) + ["broadcast"] * told.ruled
        if missing := [name for name in needs if name not in kept]:
            raise InputError(f"has lost what it was sent once ({', '.join(missing)}), and is sent it again")
        found = {name: torch.from_numpy(np.array(array.numpy())) for name, array in kept.items()}
        if "frozen" in needs:
            told = replace(told, weights=told.weights.index_put((frozen,), found["frozen"]))
        return replace(told, broadcast=found["broadcast"] if "broadcast" in needs else None)
