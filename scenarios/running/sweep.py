"""A plan and a folder -> records: take up what is there, run what is missing, save every block as it finishes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.tuning import TuningRecord
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import Block, Plan, Shard
from autoflip_secure.scenarios.config.plan import plan as make_plan
from autoflip_secure.scenarios.plugins.factories import find
from autoflip_secure.scenarios.running.build import CellBuilder, planned_releases, recounted
from autoflip_secure.scenarios.running.checks import check, check_cells, check_inputs
from autoflip_secure.scenarios.running.elsewhere import Elsewhere
from autoflip_secure.scenarios.running.executors import choose_workers, running
from autoflip_secure.scenarios.running.keeping import (
    announcements,
    differences,
    models_to_keep,
    not_kept,
    refuse_other_releases,
)
from autoflip_secure.scenarios.running.listening import Listener
from autoflip_secure.scenarios.running.pace import Pace
from autoflip_secure.scenarios.running.parties import check_parties, exposed, party_pool
from autoflip_secure.scenarios.store.checkpoints import cells_without_models
from autoflip_secure.scenarios.store.fingerprints import input_digests
from autoflip_secure.scenarios.store.ledgers import (
    Attempts,
    announce,
    refuse_without_ledger,
    under_conditions,
    without_ledger,
)
from autoflip_secure.scenarios.store.results import name_foreign
from autoflip_secure.scenarios.store.store import Store
from autoflip_secure.scenarios.store.tuning import TUNING

__all__ = ["Listener", "SweepResult", "run_sweep"]


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
    executor: str | None = None,
    shard: Shard | None = None,
) -> SweepResult:
    """Run what is missing of ``plan`` in ``folder``: where settings are tuned, that stage first.

    Args:
        folder: results folder; made when absent, continued when it holds the same scenario. The tuning stage is a
            results folder of its own in it, :data:`.TUNING`.
        workers: processes; None chooses.
        keep_models: every cell leaves its initial, best and final model in the folder
            (:mod:`.scenarios.store.checkpoints`). Finished cells without them are run again; their records stay.
        executor: ``module:function`` that gives what runs the blocks (:mod:`.elsewhere`), ``workers`` at once.
        shard: the part of the blocks that is run here; None: all. Each shard runs the whole tuning stage, whose numbers
            are the same everywhere; :mod:`.merging` puts folders together.

    Raises:
        InputError: data, split or model do not fit; nothing has been run.
        StoreError: the folder is locked, of another scenario or of other data, unwritable or full; finished cells are
            kept.
        AutoflipError: a worker died; finished cells are kept.
    """
    if executor is not None:
        _refuse_elsewhere(plan, executor, workers, keep_models=keep_models)
    if plan.tuning is None:
        return _run(plan, folder, workers, listener, keep_models=keep_models, executor=executor, shard=shard)
    _refuse_other(folder, plan)
    stage, place = plan.tuning.stage, folder / TUNING
    if not all((place / "cells" / f"{key}.json").exists() for key in stage.keys):
        check_parties(plan.blocks)
        check(plan.blocks)  # what is wrong with the second stage is said before the first
    listener.stage("stage 1 of 2 (tuning)", len(stage.keys))
    tuned = _run(stage, place, workers, replace(listener, rounds=None, stored=None), executor=executor)
    chosen = plan.tuning.chosen(tuned.records)
    listener.stage("stage 2 of 2", len(chosen.keys))
    result = _run(chosen, folder, workers, listener, keep_models=keep_models, executor=executor, shard=shard)
    return replace(
        result, tuning=tuned, seconds=tuned.seconds + result.seconds, damaged=[*tuned.damaged, *result.damaged]
    )


@one_thread()
def _run(
    plan: Plan,
    folder: Path,
    workers: int | None,
    listener: Listener,
    *,
    keep_models: bool = False,
    executor: str | None = None,
    shard: Shard | None = None,
) -> SweepResult:
    """One stage."""
    assert plan.tuning is None, "settings are to be chosen first"
    began = time.monotonic()
    with Store(folder) as store:
        store.accept(plan)
        records = store.load(plan.keys)
        without_models = cells_without_models(store, records) if keep_models else set[str]()
        _tell(store.damaged, listener)
        if foreign := store.foreign(plan.keys):
            listener.note(name_foreign(foreign))
        reused = len(records)
        todo = [block for block in plan.part(shard) if not records.keys() - without_models >= set(block.keys)]
        check_parties(todo)
        _tell([exposed(todo)], listener)
        builder = CellBuilder()
        todo, inputs = _checked(plan, todo, builder, listener)
        told = len(store.damaged)
        store.claim(plan, inputs)
        _tell(store.damaged[told:], listener)
        tuning = _tuning_of(plan, store, records)
        if keep_models:
            again = [cell for block in todo for cell in block.cells if cell.key in without_models]
            refuse_other_releases(folder, again)
        _tell(announcements(todo, folder, without_models) if keep_models else not_kept(todo, folder), listener)
        workers = workers if workers is not None else choose_workers(todo, builder)
        _log_start(store, plan, shard, f"{reused} there already, {len(todo)} blocks to do, {workers} workers")
        if todo:
            listener.start(sum(len(block.cells) for block in todo), workers)
        tried = _announce(store, todo, records, listener, builder)
        order, cells = {block.index: number for number, block in enumerate(todo)}, [len(block.cells) for block in todo]
        pace = Pace([_work(block) for block in todo], workers)

        def tell() -> None:
            done = sum(count * share for count, share in zip(cells, pace.shares, strict=True))
            listener.progress(done, sum(cells), pace.left())

        def progress(block: Block, share: float) -> None:
            pace.advance(order[block.index], share)
            tell()

        models = models_to_keep(folder, plan.keys, records, without_models) if keep_models else None
        where = None if executor is None else Elsewhere(executor, inputs or {})
        flight = partial(running, todo, workers, progress, builder=builder, models=models, where=where)
        with party_pool(todo) as pool, flight(pool=pool, rounds=listener.hearing(plan.cells, records)) as stream:
            for block, results in stream:
                _tell(differences([one for one in results if one.cell in without_models], records), listener)
                counted = map(partial(with_attempts, block, tried, builder), results)
                new = (r.model_copy(update={"tuning": tuning[r.cell]}) for r in counted if r.cell not in records)
                _keep(new, store, records, listener)
                pace.finish(order[block.index])
                tell()
                store.log(f"{block.label} done")
        store.log("complete")
        there = [records[key] for key in plan.keys if key in records]
        return SweepResult(folder, there, reused, workers, time.monotonic() - began, store.damaged)


def _log_start(store: Store, plan: Plan, shard: Shard | None, what: str) -> None:
    store.log(f"run: {'' if shard is None else f'part {shard} of '}{len(plan.keys)} cells, {what}")


def _keep(new: Iterable[RunRecord], store: Store, records: dict[str, RunRecord], listener: Listener) -> None:
    """Save the records of a block, and tell who listens."""
    kept = []
    for record in new:
        records[record.cell] = record
        store.save(record)
        kept.append(record)
    if listener.stored is not None and kept:
        listener.stored(kept)


def _tuning_of(plan: Plan, store: Store, records: dict[str, RunRecord]) -> dict[str, TuningRecord | None]:
    """How the settings of each cell were chosen; finished ones of a folder that had lost its manifest are put right."""
    tuning = {cell.key: cell.tuning for cell in plan.cells}
    for key, record in records.items():
        if record.tuning != tuning[key]:
            records[key] = record.model_copy(update={"tuning": tuning[key]})
            store.save(records[key])
    return tuning


def _refuse_elsewhere(plan: Plan, executor: str, workers: int | None, *, keep_models: bool) -> None:
    """What an executor of the user's own cannot do; and there has to be one."""
    find(f"--executor {executor}", executor)
    if workers is None:
        raise InputError("--executor: says where blocks run; give --workers N too, how many are sent there at once")
    if keep_models:
        raise InputError("--executor: models are kept on the machine that runs a block; leave out --keep-models")
    if any(spec.settings.secure_sum is not None for spec in plan.cells):
        raise InputError("--executor: secure_sum reaches its parties from this machine only; leave out --executor")


def _refuse_other(folder: Path, plan: Plan) -> None:
    """That a folder holds the results of another scenario is said before the first stage, not after it."""
    if not any((folder / "cells").glob("*.json")):
        return
    try:
        before = make_plan(load(folder / "scenario.yaml"))
    except AutoflipError:
        return  # the second stage looks at the cells themselves
    if any({*old} != {*new} for old, new in zip(_keys(before), _keys(plan), strict=True)):
        raise StoreError(Store(folder).difference(plan))


def _keys(plan: Plan) -> tuple[list[str], list[str]]:
    return plan.keys, [] if plan.tuning is None else plan.tuning.stage.keys


def _tell(sentences: Iterable[str | None], listener: Listener) -> None:
    for sentence in sentences:
        if sentence is not None:
            listener.note(sentence)


def _work(block: Block) -> float:
    """How much a block is beside others of the sweep: local passes over a client's data."""
    settings = [spec.settings for spec in block.cells]
    return float(sum(s.rounds * s.cohort * s.training.epochs for s in settings))


def _announce(
    store: Store,
    todo: Sequence[Block],
    records: dict[str, RunRecord],
    listener: Listener,
    builder: CellBuilder,
) -> dict[str, Attempts]:
    """Write the ledgers of what is about to run, before it does; a block is run whole, finished cells too."""
    begun = store.begun() | {key for key, record in records.items() if record.privacy is not None}
    refuse_without_ledger(store.folder, begun & {key for block in todo for key in block.keys})
    with store.explained():
        tried = announce(store.folder, planned_releases(todo, builder))
    _tell(without_ledger(store.folder, begun), listener)
    if tried:
        store.note_begun(tried)
    _count_again(store, todo, tried, records, builder)
    return tried


def _count_again(
    store: Store,
    todo: Iterable[Block],
    tried: Mapping[str, Attempts],
    records: dict[str, RunRecord],
    builder: CellBuilder,
) -> None:
    """Finished cells of the blocks that run release once more."""
    for block in todo:
        for key in records.keys() & set(block.keys):
            counted = with_attempts(block, tried, builder, records[key])
            if counted != records[key]:
                store.save(counted)
                records[key] = counted


def with_attempts(block: Block, tried: Mapping[str, Attempts], builder: CellBuilder, record: RunRecord) -> RunRecord:
    """The ledger in the record counts every attempt that may have released something else."""
    attempts = tried.get(record.cell)
    if attempts is None or attempts.attempts == 1:
        return record
    return record.model_copy(update={"privacy": recounted(block, record.cell, attempts, builder)})


def _checked(
    plan: Plan, todo: list[Block], builder: CellBuilder, listener: Listener
) -> tuple[list[Block], dict[str, str] | None]:
    """What is to do, under the conditions of now, and what it reads; nothing is wrong with it."""
    check_inputs(todo, builder)
    inputs = _inputs(plan, bool(todo), builder, listener)
    todo = under_conditions(todo, inputs or {})
    check_cells(todo, builder)
    return todo, inputs


def _inputs(plan: Plan, needed: bool, builder: CellBuilder, listener: Listener) -> dict[str, str] | None:
    """Fingerprints of what the cells read; None when it is gone and nothing is left to run."""
    try:
        return input_digests((cell.settings for cell in plan.cells), builder.data)
    except InputError as error:
        if needed:
            raise
        listener.note(f"the results are there, but what they were made from cannot be compared: {error}")
        return None
