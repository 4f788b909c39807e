"""A block of cells: the local training of all of them goes to the trainer at once, which is where the time goes.

The order inside a round (``records.pipeline.PIPELINE``) is the same for every algorithm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

import torch

from autoflip_secure.errors import InputError
from autoflip_secure.federation.arriving import Cohort
from autoflip_secure.federation.backdoor_test import attack_success
from autoflip_secure.federation.block import refuse_mixed
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import accumulated, measure, names, prepared
from autoflip_secure.federation.client_states import ClientStates
from autoflip_secure.federation.deciding_after import decide_after
from autoflip_secure.federation.exploring import Sums, explored_again, landscapes
from autoflip_secure.federation.global_test import GlobalTest
from autoflip_secure.federation.lone_training import train_alone
from autoflip_secure.federation.outcome import Outcome
from autoflip_secure.federation.outside_answers import blaming_rule
from autoflip_secure.federation.own_masks import decide, keep_moved, keep_trained, memories
from autoflip_secure.federation.own_models import tuned_models
from autoflip_secure.federation.personal import personal_tests
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.federation.preparing import prepare
from autoflip_secure.federation.recorder import Logbook
from autoflip_secure.federation.root import root_jobs, with_roots
from autoflip_secure.federation.ruling import rehearsed
from autoflip_secure.federation.scored_rounds import rehearsed_scoring
from autoflip_secure.federation.server import begin, begin_again, finish_rounds, plan_round
from autoflip_secure.federation.server_pruning import drawn_for_round
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import trained_mask
from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.models.costs import CostModel
from autoflip_secure.records.run import RoundRecord, RunRecord, TrainerChoice
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.secure_rows.secure_sum import Connect, SecureSum
from autoflip_secure.training import Trainer, evaluate_by_class, promised_bits


def _session(cell: Cell, connect: Connect | None) -> SecureSum | None:
    """The parties of a cell; None: it does without."""
    config = cell.protocol.secure_sum
    return None if config is None or connect is None else connect(config)


def _refuse(cells: Sequence[Cell], connect: Connect | None) -> None:
    """What would fail in the middle of a run.

    Raises:
        InputError: the cells are no block, or one asks for parties and there is nobody to connect to.
    """
    refuse_mixed(cells)
    if connect is None and any(cell.protocol.secure_sum is not None for cell in cells):
        raise InputError(
            "secure_sum: this run has no parties to connect to; run it as a sweep, or set secure_sum: none"
        )


def _round(
    cells: Sequence[Cell],
    states: Sequence[ServerState],
    trainer: Trainer,
    watch: Watcher,
    sums: Sums,
    kept: Sequence[ClientStates | None],
    inputs: PoisonedInputs,
) -> list[tuple[ServerState, Outcome]]:
    """One round of several cells: plan each, train all at once, finish each, and show it."""
    masks = decide(cells, states, kept, inputs)
    plans = [plan_round(cell, state, mask) for cell, state, mask in zip(cells, states, masks, strict=True)]
    x, plans = inputs.of_round(cells, states[0].round + 1, plans)
    jobs = [job for _, own in plans for job in own]
    problem = cells[0].problem
    sent, jobs = len(jobs), [*jobs, *root_jobs(cells, states)]
    schedule = cells[0].protocol.training.in_round(states[0].round + 1)
    with blaming_rule(jobs):
        trained = trainer.train(problem.module, problem.layout, x, jobs, schedule)
    states, said = with_roots(cells, states, trained.updates[sent:])
    masks = keep_moved(cells, states, masks, trained, kept)
    keep_trained(cells, states, masks, trained, kept)
    masks = decide_after(cells, states, masks, trained, kept, inputs)
    measured = measure(cells, states[0].round + 1, plans, trained, trainer, x, kept)
    ends = list(accumulate(len(own) for _, own in plans))
    places = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    losses = torch.stack([trained.losses[rows, -1].mean() for rows in places]).tolist()
    cohorts = [
        Cohort(clients, trained.updates[rows], beside, sums(cell), mask, loss if math.isfinite(loss) else None)
        for cell, (clients, _), rows, mask, beside, loss in zip(
            cells, plans, places, masks, measured, losses, strict=True
        )
    ]
    results = []
    for cell, state, told, (after, said_of) in zip(
        cells, states, said, finish_rounds(cells, states, cohorts), strict=True
    ):
        outcome = replace(said_of, events=(*told, *said_of.events)) if told else said_of
        results.append((after, outcome))
        if cell.visibility.server == "rows":
            here = [k for k in outcome.participants if k not in outcome.rejected]
            watch.round(cell, state, torch.tensor(here, dtype=torch.long), outcome.sent, after)
            if outcome.channels:
                watch.channels(cell, state, torch.tensor(here, dtype=torch.long), outcome.channel_rows)
                watch.learned(cell, state, outcome.channel_means)
    return results


def _again(
    cells: Sequence[Cell],
    states: Sequence[ServerState],
    books: Sequence[Logbook] | None,
    trainer: Trainer,
    watch: Watcher,
    sums: Sums,
    inputs: PoisonedInputs,
) -> list[ServerState]:
    """The states before a round: with a new map where explorers explore again first, or maps are those of rounds."""
    found = []
    for number, explored in enumerate(explored_again(cells, states, trainer, watch, sums, inputs)):
        state = states[number]
        if explored is not None:
            landscape, events, transfer, attack = explored
            if books is not None:
                books[number].explored_again(state, landscape, events, transfer)
            state = begin_again(cells[number], state, landscape, attack)
        else:
            state = drawn_for_round(cells[number], state)
        found.append(state)
    return found


def _test(cells: Sequence[Cell], states: Sequence[ServerState]) -> list[GlobalTest | None]:
    """What the test set says of the cells that are due in this round; all in one stacked program."""
    due = [
        state.round % cell.protocol.evaluate_every == 0 or state.round == cell.protocol.rounds
        for cell, state in zip(cells, states, strict=True)
    ]
    if not any(due):
        return [None] * len(cells)
    problem = cells[0].problem
    vectors = torch.stack([state.model for state, is_due in zip(states, due, strict=True) if is_due])
    classes = problem.num_classes if states[0].round == cells[0].protocol.rounds else 0
    found = evaluate_by_class(problem.module, problem.layout, vectors, problem.x_test, problem.y_test, classes)
    success = attack_success([cell for cell, is_due in zip(cells, due, strict=True) if is_due], vectors)
    measured = map(GlobalTest, *(each.tolist() for each in found), success)
    return [next(measured) if is_due else None for is_due in due]


@one_thread()
def run_cells(
    cells: Sequence[Cell],
    trainer: Trainer,
    progress: Callable[[int, int], None] | None = None,
    watch: Watcher | None = None,
    connect: Connect | None = None,
    heard: Callable[[Cell, RoundRecord], None] | None = None,
    started: Callable[[TrainerChoice], None] | None = None,
) -> list[RunRecord]:
    """Run a block of cells that share data, model, rounds and schedules; seeds, partitions and algorithms may differ.

    Args:
        cells: at least one, with one :meth:`.Protocol.block_key` and one :meth:`.Problem.block_key`.
        trainer: does the local training of all cells in one stacked program, or one client at a time.
        progress: called after every round with (rounds done, rounds in all).
        watch: is shown what the server receives; nothing of what passes through parties, whose sums it can derive.
        connect: opens the session with the parties of a cell that asks for secure sums.
        heard: called with what the record says of each round of each cell, as soon as the round is over.
        started: called with how they are trained, before any client is asked for anything.

    Returns:
        One record per cell, in order.

    Raises:
        InputError: the cells differ in what a block shares, or one asks for secure sums without ``connect``.
        SecureSumError: a party failed.
    """
    _refuse(cells, connect)
    sums, kept, inputs = partial(_session, connect=connect), memories(cells), PoisonedInputs(cells)
    began = time.perf_counter()
    first, rounds = cells[0].problem, cells[0].protocol.rounds
    costs = CostModel(
        first.module,
        first.layout,
        first.units,
        first.units_reason,
        first.x_train[:1],
        cells[0].protocol.training.batch_size,
    )
    books = [Logbook(cell, costs) for cell in cells]
    watch = watch or Watcher()
    states, how = [], _how(cells, trainer)
    if started is not None:
        started(how)
    before = first.explored if how.bits == "stack" else None
    explored = landscapes(cells, trainer, watch, sums, inputs, before)
    for cell, book, (landscape, events, transfer, attack) in zip(cells, books, explored, strict=True):
        ready = prepare(cell, trainer, watch, sums, inputs)
        states.append(begin(cell, landscape, attack, None if ready is None else ready.received))
        book.open(landscape, states[-1].guidance, events, transfer)
        book.prepare(ready)
    begun = train_alone(cells, states, trainer, inputs)
    for cell, book, (state, alone) in zip(cells, books, begun, strict=True):
        book.begin_alone(alone)
        watch.model(cell, state.tested(cell.protocol.pruner), None)
    states = [state for state, _ in begun]
    for done in range(1, rounds + 1):
        states = _again(cells, states, books, trainer, watch, sums, inputs)
        results = _round(cells, states, trainer, watch, sums, kept, inputs)
        states = [state for state, _ in results]
        tested = [state.tested(cell.protocol.pruner) for cell, state in zip(cells, states, strict=True)]
        tests = _test(cells, tested)
        tuned = tuned_models(cells, states, kept, trainer) if done == rounds else {}
        personal = personal_tests(cells, tested, kept, [test is not None for test in tests], tuned)
        for cell, book, state, (_, outcome), test, own in zip(
            cells, books, tested, results, tests, personal, strict=True
        ):
            book.add(outcome, test, own)
            watch.model(cell, state, test.accuracy if test else None)
            if heard is not None:
                heard(cell, book.rounds[-1])
        if progress is not None:
            progress(done, rounds)
    seconds = (time.perf_counter() - began) / len(cells)
    return [book.close(state, how, seconds, own) for book, state, own in zip(books, tested, kept, strict=True)]


@one_thread()
def watch_cells(cells: Sequence[Cell], trainer: Trainer, watch: Watcher) -> None:
    """The same runs as :func:`run_cells`, in the open, for who looks on alone: nothing is tested, counted or recorded.

    Raises:
        InputError: a cell asks for secure sums, or the cells differ in what a block shares.
    """
    _refuse(cells, None)
    sums, kept, inputs = partial(_session, connect=None), memories(cells), PoisonedInputs(cells)
    explored = landscapes(cells, trainer, watch, sums, inputs)
    states = []
    for cell, (landscape, _, _, attack) in zip(cells, explored, strict=True):
        ready = prepare(cell, trainer, watch, sums, inputs)
        states.append(begin(cell, landscape, attack, None if ready is None else ready.received))
    states = [state for state, _ in train_alone(cells, states, trainer, inputs)]
    for _ in range(cells[0].protocol.rounds):
        states = _again(cells, states, None, trainer, watch, sums, inputs)
        states = [state for state, _ in _round(cells, states, trainer, watch, sums, kept, inputs)]


def _how(cells: Sequence[Cell], trainer: Trainer) -> TrainerChoice:
    """The trainer, and whether what it computes depends on what else is in the block."""
    problem, schedule = cells[0].problem, cells[0].protocol.training
    models = sum(len(cell.problem.clients) + (cell.problem.root is not None) for cell in cells)
    kinds = {
        (steps is None, cell.protocol.local_rule, trained_mask(cell.protocol.pruner)): (
            steps,
            rehearsed(cell),
            rehearsed_scoring(cell),
        )
        for cell in cells
        for steps in [
            *(cell.private_steps(client, 1) for client in range(len(cell.problem.clients))),
            *([] if cell.problem.root is None else [None]),
        ]
    }
    measured = any(map(names, cells)) or any(map(prepared, cells))
    sums = frozenset[Accumulated]().union(*map(accumulated, cells))
    found = {
        promised_bits(
            trainer,
            problem.module,
            problem.layout,
            problem.x_train,
            problem.initial,
            schedule,
            models,
            private,
            problem.recipe,
            rule,
            gradients=measured,
            accumulate=sums,
            scoring=scoring,
        )
        for private, rule, scoring in kinds.values()
    }
    return TrainerChoice(
        kind=trainer.kind,
        reason=trainer.reason,
        device=str(trainer.device),
        bits="stack" if found == {"stack"} else "block",
    )
