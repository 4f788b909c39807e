"""A plan and a folder -> records: take up what is there, run what is missing, save every block as it finishes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.tuning import TuningRecord
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import Block, Plan, Shard
from autoflip_secure.scenarios.config.plan import plan as make_plan
from autoflip_secure.scenarios.running.attempts import Counting
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.checks import check, check_cells, check_inputs
from autoflip_secure.scenarios.running.cutting import TooLarge, cut_to_fit, halves
from autoflip_secure.scenarios.running.executors.base import Executor, Finished, Task
from autoflip_secure.scenarios.running.executors.local import Local
from autoflip_secure.scenarios.running.gauge import Gauge
from autoflip_secure.scenarios.running.keeping import (
    announcements,
    differences,
    models_to_keep,
    not_kept,
    refuse_other_releases,
    trained_otherwise,
)
from autoflip_secure.scenarios.running.listening import Listener
from autoflip_secure.scenarios.running.parties import check_parties, exposed, party_pool
from autoflip_secure.scenarios.store.checkpoints import cells_without_models
from autoflip_secure.scenarios.store.devices import OneDevice
from autoflip_secure.scenarios.store.fingerprints import input_digests
from autoflip_secure.scenarios.store.ledgers import under_conditions
from autoflip_secure.scenarios.store.results import name_foreign
from autoflip_secure.scenarios.store.store import WITH_OUT, Store
from autoflip_secure.scenarios.store.tuning import TUNING
from autoflip_secure.terminal.counting import count_of

__all__ = ["Listener", "SweepResult", "run_sweep"]

_LOCAL = Local()


@dataclass
class SweepResult:
    """What a sweep came to."""

    folder: Path
    records: list[RunRecord]  # in the order of the plan; of a shard those that are there
    reused: int  # cells taken up from before
    workers: int
    seconds: float
    damaged: list[str] = field(default_factory=list)
    tuning: SweepResult | None = None  # the stage before, whose records are not of this sweep; None: nothing was tuned


def run_sweep(
    plan: Plan,
    folder: Path,
    workers: int | None,
    listener: Listener,
    *,
    keep_models: bool = False,
    executor: Executor = _LOCAL,
    shard: Shard | None = None,
    elsewhere: str = WITH_OUT,
) -> SweepResult:
    """Run what is missing of ``plan`` in ``folder``: where settings are tuned, that stage first.

    Args:
        folder: results folder; made when absent, continued when it holds the same scenario. The tuning stage is a
            results folder of its own in it, :data:`.TUNING`.
        workers: blocks that run side by side; None chooses.
        keep_models: every cell leaves its initial, best and final model in the folder
            (:mod:`.scenarios.store.checkpoints`). Finished cells without them are run again; their records stay.
        executor: what runs the blocks; usually this machine.
        shard: the part of the blocks that is run here; None: all. Each shard runs the whole tuning stage, whose numbers
            are the same everywhere; :mod:`.merging` puts folders together.
        elsewhere: how the caller names another folder, for errors.

    Raises:
        InputError: data, split or model do not fit; nothing has been run.
        StoreError: the folder is locked, of another scenario or of other data, unwritable or full; finished cells are
            kept.
        AutoflipError: a worker died; finished cells are kept.
    """
    executor.refuse(plan.cells, workers, keep_models=keep_models)
    with executor.open() as ready:
        return _stages(plan, folder, workers, listener, ready, elsewhere, keep_models=keep_models, shard=shard)


def _stages(
    plan: Plan,
    folder: Path,
    workers: int | None,
    listener: Listener,
    executor: Executor,
    elsewhere: str,
    *,
    keep_models: bool,
    shard: Shard | None,
) -> SweepResult:
    """The tuning stage, where there is one, and the cells."""
    if plan.tuning is None:
        return _run(plan, folder, workers, listener, executor, elsewhere, keep_models=keep_models, shard=shard)
    _refuse_other(Store(folder, elsewhere), plan)
    stage, place = plan.tuning.stage, folder / TUNING
    if not all((place / "cells" / f"{key}.json").exists() for key in stage.keys):
        check_parties(plan.blocks)
        check(plan.blocks)  # what is wrong with the second stage is said before the first
    listener.stage("stage 1 of 2 (tuning)", len(stage.keys))
    tuned = _run(stage, place, workers, replace(listener, rounds=None, stored=None), executor, elsewhere)
    chosen = plan.tuning.chosen(tuned.records)
    listener.stage("stage 2 of 2", len(chosen.keys))
    result = _run(chosen, folder, workers, listener, executor, elsewhere, keep_models=keep_models, shard=shard)
    return replace(
        result, tuning=tuned, seconds=tuned.seconds + result.seconds, damaged=[*tuned.damaged, *result.damaged]
    )


@one_thread()
def _run(
    plan: Plan,
    folder: Path,
    workers: int | None,
    listener: Listener,
    executor: Executor,
    elsewhere: str,
    *,
    keep_models: bool = False,
    shard: Shard | None = None,
) -> SweepResult:
    """One stage."""
    assert plan.tuning is None, "settings are to be chosen first"
    began = time.monotonic()
    with Store(folder, elsewhere) as store:
        store.accept(plan)
        records = store.load(plan.keys)
        without_models = cells_without_models(store, records) if keep_models else set[str]()
        _tell(store.damaged, listener)
        if foreign := store.foreign(plan.keys):
            listener.note(name_foreign(foreign))
        reused = len(records)
        todo = _missing(plan.part(shard), records, without_models)
        device = OneDevice.of(folder, records.values(), todo)
        check_parties(todo)
        _tell([exposed(todo), trained_otherwise(records.values(), len(todo))], listener)
        builder = CellBuilder()
        todo, inputs, workers = _checked(plan, todo, builder, listener, executor, workers)
        todo = _missing(todo, records, without_models)  # parts of a block that was cut
        told = len(store.damaged)
        store.claim(plan, inputs)
        _tell(store.damaged[told:], listener)
        tuning = _tuning_of(plan, store, records)
        _tell(_of_models(todo, folder, without_models) if keep_models else not_kept(todo, folder), listener)
        _log_start(store, plan, shard, f"{reused} there already, {len(todo)} blocks to do, {workers} workers")
        if todo:
            listener.start(sum(len(block.cells) for block in todo), workers)
        counting = Counting(store, records, builder, inputs or {})
        counting.announce(todo, listener.note)
        gauge = Gauge(todo, workers, listener)
        models = models_to_keep(folder, plan.keys, records, without_models) if keep_models else None
        hearing = listener.hearing(plan.cells, records)
        task = Task(gauge.advance, hearing, builder, inputs or {}, models=models, again=counting.again)
        while todo:
            parts: list[Block] = []
            with _running(executor, todo, workers, task) as stream:
                for block, results in stream:
                    if isinstance(results, TooLarge):
                        parts += _halves(block, results, store, listener)
                    else:
                        device.take(results, folder)
                        _tell(differences([one for one in results if one.cell in without_models], records), listener)
                        counted = [counting.counted(block, r) for r in results if r.cell not in records]
                        _keep(
                            (r.model_copy(update={"tuning": tuning[r.cell]}) for r in counted), store, records, listener
                        )
                        store.log(f"{block.label} done")
                    gauge.finish(block)
            if todo := _missing(parts, records, without_models):
                counting.announce(todo, listener.note)
                gauge.begin(todo)
        store.log("complete")
        there = [records[key] for key in plan.keys if key in records]
        return SweepResult(folder, there, reused, workers, time.monotonic() - began, store.damaged)


def _missing(blocks: Iterable[Block], records: Mapping[str, RunRecord], without_models: set[str]) -> list[Block]:
    """Those of which not every cell is there, with its models where they are asked for."""
    return [block for block in blocks if not records.keys() - without_models >= set(block.keys)]


def _halves(block: Block, found: TooLarge, store: Store, listener: Listener) -> list[Block]:
    """What runs in place of a block that did not fit into memory, which is said."""
    parts = halves(block, found)
    text = f"{block.label}: memory ran out ({found.why}); it runs in parts of {len(parts[0].cells)} instead"
    store.log(text)
    listener.note(text)
    return parts


@contextlib.contextmanager
def _running(executor: Executor, todo: Sequence[Block], workers: int, task: Task) -> Iterator[Finished]:
    """Finished blocks, with the parties that they need. Leaving the context stops what is still running."""
    with party_pool(todo) as pool, contextlib.closing(executor.run(todo, workers, replace(task, pool=pool))) as stream:
        yield stream


def _of_models(todo: Sequence[Block], folder: Path, without_models: set[str]) -> Iterable[str]:
    """What is to be said of models that are kept, once it is sure that finished cells may run again for theirs."""
    refuse_other_releases(folder, [cell for block in todo for cell in block.cells if cell.key in without_models])
    return announcements(todo, folder, without_models)


def _log_start(store: Store, plan: Plan, shard: Shard | None, what: str) -> None:
    store.log(f"run: {'' if shard is None else f'part {shard} of '}{len(plan.keys)} cells, {what}")


def _keep(new: Iterable[RunRecord], store: Store, records: dict[str, RunRecord], listener: Listener) -> None:
    """Save the records of a block, and tell who listens."""
    kept = []
    for record in new:
        records[record.cell] = store.save(record)
        kept.append(record)
    if listener.stored is not None and kept:
        listener.stored(kept)


def _tuning_of(plan: Plan, store: Store, records: dict[str, RunRecord]) -> dict[str, TuningRecord | None]:
    """How the settings of each cell were chosen; finished ones of a folder that had lost its manifest are put right."""
    tuning = {cell.key: cell.tuning for cell in plan.cells}
    for key, record in records.items():
        if record.tuning != tuning[key]:
            records[key] = store.save(record.model_copy(update={"tuning": tuning[key]}))
    return tuning


def _refuse_other(store: Store, plan: Plan) -> None:
    """That a folder holds the results of another scenario is said before the first stage, not after it."""
    if not any(store.cells.glob("*.json")):
        return
    try:
        before = make_plan(load(store.folder / "scenario.yaml"))
    except AutoflipError:
        return  # the second stage looks at the cells themselves
    if any({*old} != {*new} for old, new in zip(_keys(before), _keys(plan), strict=True)):
        raise StoreError(store.difference(plan))


def _keys(plan: Plan) -> tuple[list[str], list[str]]:
    return plan.keys, [] if plan.tuning is None else plan.tuning.stage.keys


def _tell(sentences: Iterable[str | None], listener: Listener) -> None:
    for sentence in sentences:
        if sentence is not None:
            listener.note(sentence)


def _checked(
    plan: Plan, todo: list[Block], builder: CellBuilder, listener: Listener, executor: Executor, workers: int | None
) -> tuple[list[Block], dict[str, str] | None, int]:
    """What is to do, in parts that fit into memory, under the conditions of now; what it reads; blocks side by side.

    Nothing is wrong with any of it.
    """
    check_inputs(todo, builder)
    inputs = _inputs(plan, bool(todo), builder, listener)
    if executor.here:  # elsewhere it is not known what there is
        workers = executor.workers(workers, todo, builder)
        parts = [*cut_to_fit(todo, builder, workers)]
        if len(parts) > len(todo):
            listener.note(
                f"{count_of(len(todo), 'block')} run in {len(parts)} parts: more at once is estimated to need more "
                f"memory than {count_of(workers, 'worker')} may fill"
            )
        todo = parts
    todo = under_conditions(todo, inputs or {})
    check_cells(todo, builder)
    return todo, inputs, workers if executor.here and workers else executor.workers(workers, todo, builder)


def _inputs(plan: Plan, needed: bool, builder: CellBuilder, listener: Listener) -> dict[str, str] | None:
    """Fingerprints of what the cells read; None when it is gone and nothing is left to run."""
    try:
        return input_digests((cell.settings for cell in plan.cells), builder.data)
    except InputError as error:
        if needed:
            raise
        listener.note(f"the results are there, but what they were made from cannot be compared: {error}")
        return None
