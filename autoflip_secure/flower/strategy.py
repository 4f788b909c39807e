"""The engine's server as a strategy of Flower: its aggregators, pre-aggregators and pruners, round by round.

Cohorts are the engine's draws of the seed. Before round 1 the strategy sends messages of its own: nodes say which
client they are, explorers explore, clients measure what a pruner asks for. A round goes on with whoever answered. What
:func:`.finish_round` makes of the rows is what it makes of the simulation's, so scores, filters, masks and the record
are those of a sweep.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import prepared, wanted
from autoflip_secure.federation.exploring import Phase, landscape
from autoflip_secure.federation.global_test import GlobalTest
from autoflip_secure.federation.preparing import preparation
from autoflip_secure.federation.recorder import Logbook
from autoflip_secure.federation.server import begin, begin_again, finish_round
from autoflip_secure.federation.server_pruning import drawn_for_round
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.flower import messages, models
from autoflip_secure.flower.agreed import Federation
from autoflip_secure.flower.mail import Mail
from autoflip_secure.flower.nodes import Nodes
from autoflip_secure.flower.replies import Replies, round_metrics
from autoflip_secure.interfaces import Channel, Exploration
from autoflip_secure.interfaces.phases import exploration_after
from autoflip_secure.models.costs import CostModel
from autoflip_secure.records.run import RoundRecord, RunRecord, TrainerChoice
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.training import evaluate_by_class

_LOG = logging.getLogger("flwr")


class AutoflipStrategy(Strategy):  # type: ignore[misc] # Flower is not followed for type checks
    """A scenario's server side, for Flower's ``ServerApp``: ``AutoflipStrategy(federation).start(grid, …)``.

    Args:
        federation: what was agreed on; give ``start`` its ``rounds`` as ``num_rounds``.
        wait_for: clients that have to be there before it begins; None: all.
        patience: seconds to wait for them.
        timeout: seconds to wait for answers before round 1; that of rounds is an argument of ``start``.
        test: inputs and labels that the server has, to test models on; None: the scenario's, where clients train on
            its split, else there is no test.
    """

    def __init__(
        self,
        federation: Federation,
        *,
        wait_for: int | None = None,
        patience: float = 600,
        timeout: float = 3600,
        test: tuple[Any, Any] | None = None,
    ) -> None:
        count = federation.clients if wait_for is None else wait_for
        if not 1 <= count <= federation.clients:
            raise InputError(f"wait_for = {count}: there are {federation.clients} clients; give 1 to that many")
        self.federation, self.wait_for, self.patience, self.timeout = federation, count, patience, timeout
        self.nodes = Nodes(federation.digest, federation.clients, timeout)
        self.events: list[str] = []
        self._initial = federation.kit.initial
        split = federation.kit.split
        self._test = None if split is None else (split.x_test, split.y_test)
        if test is not None:
            self._test = federation.rows_like(*test, "test: the server")
        self._began = time.perf_counter()
        self._cell = self._known_so_far({})
        self._state: ServerState | None = None
        self._book: Logbook | None = None
        self._mail = Mail(federation.digest, federation.kit.layout, self.nodes, self._say)

    # ------------------------------------------------------------------------------------------ what it has found

    @property
    def rounds(self) -> list[RoundRecord]:
        """What a run's record says of each round so far, in the words of a sweep: scores, trust, bytes, FLOPs."""
        return [] if self._book is None else list(self._book.rounds)

    @property
    def record(self) -> RunRecord | None:
        """The record of the whole run, as a sweep keeps it; None before its end, and where models are not tested.

        Clients that are malicious are not named in it: the server of a real federation does not know them.
        """
        if self._book is None or self._state is None or self._state.round < self.federation.rounds or not self._test:
            return None
        trainer = self.federation.kit.trainer
        how = TrainerChoice(kind=trainer.kind, reason="on the nodes", device="of each node")
        state = self._state.tested(self._cell.protocol.pruner)
        return self._book.close(state, how, time.perf_counter() - self._began)

    @property
    def mask(self) -> Bool[Tensor, " params"]:
        """Which coordinates are alive now; all of them before round 1."""
        return torch.ones_like(self._initial, dtype=torch.bool) if self._state is None else self._state.mask

    @property
    def weights(self) -> Float[Tensor, " params"]:
        """The global model now, as a vector of :class:`.Layout`."""
        return self._initial if self._state is None else self._tested(self._state)

    def initial_arrays(self) -> ArrayRecord:
        """The initial model of the seed, for ``start``."""
        return models.arrays(self.federation.kit, self.federation.kit.initial)

    # ------------------------------------------------------------------------------------------ Flower's questions

    def summary(self) -> None:
        """Say what will be run."""
        own = self.federation
        _LOG.info("\t├──> %s, seed %d, digest %s", own.spec.settings.algorithm.name, own.seed, own.digest)
        _LOG.info("\t└──> %d clients, %d a round, %d rounds", own.clients, own.protocol.cohort, own.rounds)

    @one_thread()
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of a round to the cohort's nodes, after whatever comes before it.

        ``arrays`` count in round 1, as the initial model; later the strategy has its own state. ``config`` is not
        asked: what clients do was agreed on.

        Raises:
            InputError: rounds are not asked for in order, or more of them than were agreed on; too few clients came;
                or ``arrays`` are of another model.
        """
        expected = 1 if self._state is None else self._state.round + 1
        if server_round != expected or server_round > self.federation.rounds:
            raise InputError(
                f"round {server_round} is asked for where {expected} of {self.federation.rounds} would come; give "
                "num_rounds=federation.rounds, and every run a strategy of its own"
            )
        if self._state is None:
            self._initial = models.vector(self.federation.kit, arrays)
            self._say(self.nodes.wait(grid, self.wait_for, self.patience))
            state = self._begin(grid)
        else:
            self._say(self.nodes.look(grid))
            state = self._explore_again(grid, self._state)
        self._state = state
        cohort = self._cell.cohort(server_round).tolist()
        return self._mail.messages(cohort, messages.ROUND, server_round, state.weights, state.mask, state)

    @one_thread()
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The round's step, pruning, and what the record says of it."""
        state, book = self._state, self._book
        if state is None or book is None or server_round != state.round + 1:
            raise InputError(f"replies of round {server_round} came where none was configured; configure it first")
        channels = tuple(channel for channel, _ in wanted(self._cell, server_round))
        found = self._received(replies, state.mask, channels)
        after, outcome = finish_round(self._cell, state, found.clients, found.updates, measured=found.measured)
        ends = [losses[-1] for losses in found.losses if losses]
        loss = sum(ends) / len(ends) if ends else math.nan
        said = tuple(f"round {server_round}: {event}" for event in found.events)
        outcome = replace(outcome, train_loss=loss if math.isfinite(loss) else None, events=(*said, *outcome.events))
        self._say(outcome.events)
        book.cell = self._cell
        book.add(outcome, self._tests(after))
        self._state = after
        return models.arrays(self.federation.kit, self._tested(after)), round_metrics(book.rounds[-1])

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nobody is asked: models are tested on the server (``test``)."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing, as nobody was asked."""
        return None

    # ------------------------------------------------------------------------------------------ before round 1

    def _begin(self, grid: Grid) -> ServerState:
        """Exploration and preparation, where somebody asks for them, and the first mask."""
        cell = self._cell = self._known_so_far({})
        problem = cell.problem
        costs = CostModel(
            problem.module, problem.layout, problem.units, problem.units_reason, problem.x_train[:1],
            cell.protocol.training.batch_size,
        )  # fmt: skip
        book = Logbook(cell, costs)
        everywhere = torch.ones_like(self._initial, dtype=torch.bool)
        explored, events, ready = None, list[str](), None
        if cell.protocol.explores:
            explored, events = self._explored(grid, Phase(0, self._initial), everywhere)
        if channels := prepared(cell):
            everybody = range(self.federation.clients)
            asked = self._mail.messages(everybody, messages.PREPARE, 0, self._initial, everywhere, None)
            found = self._received(grid.send_and_receive(asked, timeout=self.timeout), None, channels)
            self._say([f"before training: {event}" for event in found.events])
            ready = preparation(self._cell, found.clients, found.measured, Watcher(), lambda _: None)
        state = begin(self._cell, explored, None, None if ready is None else ready.received)
        book.cell = self._cell
        book.open(explored, state.guidance, events, None)
        book.prepare(ready)
        self._say(ready.events if ready is not None else ())
        self._book = book
        return state

    def _explored(self, grid: Grid, phase: Phase, mask: Tensor) -> tuple[Exploration, list[str]]:
        """The landscape, from whoever answers, and what there is to say of it."""
        explorers, everywhere = self._cell.explorers.tolist(), torch.ones_like(mask)
        asked = self._mail.messages(explorers, messages.EXPLORE, phase.number, phase.start, mask, None)
        found = self._received(grid.send_and_receive(asked, timeout=self.timeout), everywhere, ())
        epochs = self._cell.protocol.exploration.epochs
        losses = [history[:epochs] for history in found.losses]
        explored, events, _, _ = landscape(self._cell, phase, found.clients, found.updates, losses, Watcher(), None)
        said = [*(f"exploration: {event}" for event in found.events), *events]
        self._say(said)
        return explored, said

    def _explore_again(self, grid: Grid, state: ServerState) -> ServerState:
        protocol = self._cell.protocol
        if not protocol.explores or not protocol.exploration.again(state.round, protocol.rounds):
            return drawn_for_round(self._cell, state)
        phase = Phase(exploration_after(state.round), state.weights)
        explored, events = self._explored(grid, phase, state.mask)
        if self._book is not None:
            self._book.cell = self._cell
            self._book.explored_again(state, explored, events, None)
        return begin_again(self._cell, state, explored, None)

    def _received(self, replies: Iterable[Message], mask: Tensor | None, channels: tuple[Channel, ...]) -> Replies:
        """Replies as rows, and how many samples clients say now that they have."""
        found = self._mail.received(replies, mask, channels)
        self._cell = self._known_so_far(found.samples)
        return found

    def _known_so_far(self, stated: Mapping[int, int]) -> Cell:
        """The server's cell, with the numbers of samples that clients stated last."""
        return self.federation.server_cell({**self.nodes.samples, **stated}, self._initial, self._test)

    def _tests(self, state: ServerState) -> GlobalTest | None:
        """The model on the server's test set, in the rounds in which a run of the engine is tested."""
        how, due = self._cell.protocol, state.round == self.federation.rounds
        if self._test is None or not (due or state.round % how.evaluate_every == 0):
            return None
        kit, row = self.federation.kit, self._tested(state)[None]
        accuracy, loss, classes = evaluate_by_class(kit.module, kit.layout, row, *self._test, kit.classes if due else 0)
        return GlobalTest(float(accuracy[0]), float(loss[0]), classes[0].tolist())

    def _tested(self, state: ServerState) -> Tensor:
        return state.tested(self._cell.protocol.pruner).weights

    def _say(self, events: Iterable[str]) -> None:
        for event in events:
            _LOG.warning("%s", event)
            self.events.append(event)
