"""Where blocks run: in this process, in worker processes, or elsewhere (:mod:`.elsewhere`). The records are the same.

The automatic choice takes as many workers as there are cores and blocks when that saves more time than the
seconds that a worker needs to start; a GPU is left to one process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.elsewhere import Elsewhere, run_elsewhere
from autoflip_secure.scenarios.running.parties import PartyPool
from autoflip_secure.scenarios.running.workers import Finished, Progress, Rounds, run_in_workers
from autoflip_secure.scenarios.store.checkpoints import ModelsToKeep
from autoflip_secure.training.base import resolve_device

_START_SECONDS = 4.0  # a worker process imports torch before it is of use
_FLOPS = 2e10  # of one core, for the small matrices of small models


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_workers(blocks: Sequence[Block], builder: CellBuilder | None = None) -> int:
    """How many workers ``--workers auto`` means for these blocks."""
    most = min(cores(), len(blocks))
    if most <= 1 or any(resolve_device(block.cells[0].settings.device).type != "cpu" for block in blocks):
        return 1
    seconds = sum(estimated_seconds(block, builder) for block in blocks)
    return most if seconds / most + _START_SECONDS < seconds else 1


def estimated_seconds(block: Block, builder: CellBuilder | None = None) -> float:
    """Roughly what a block takes on one core: 6 floating-point operations per parameter, sample and epoch.

    Too low for convolutions; it only decides whether starting workers pays.
    """
    total = 0.0
    builder = builder or CellBuilder()
    for spec in block.cells:
        settings = spec.settings
        module = builder.module(settings, block.cells[0].seed)
        parameters = sum(p.numel() for p in module.parameters())
        samples = len(builder.dataset(settings).y_train) / settings.clients * settings.cohort * settings.training.epochs
        total += settings.rounds * (6 * parameters * samples / _FLOPS + 0.002)
    return total


@contextlib.contextmanager
def running(
    blocks: Sequence[Block],
    workers: int,
    progress: Progress,
    pool: PartyPool | None = None,
    builder: CellBuilder | None = None,
    models: ModelsToKeep | None = None,
    where: Elsewhere | None = None,
    rounds: Callable[[Rounds], None] | None = None,
) -> Iterator[Finished]:
    """Finished blocks, as they come. Leaving the context stops what is still running.

    Args:
        workers: processes; with one, or one block, everything runs here.
        progress: called with a block in flight and its share done.
        builder: knows data, splits and noise already; it forgets them where others run the blocks.
        where: an executor that runs them; then there are neither parties nor models to keep, and no rounds to hear of.
        rounds: called with rounds of blocks in flight, as they end; None: nobody wants them.
    """
    others = where is not None or (workers > 1 and len(blocks) > 1)
    if others and builder is not None:
        builder.forget()
    if where is not None:
        stream = run_elsewhere(blocks, workers, where)
    elif others:
        stream = run_in_workers(blocks, workers, progress, pool, models, rounds)
    else:
        stream = _run_here(blocks, progress, pool, builder, models, rounds)
    with contextlib.closing(stream):
        yield stream


def _run_here(
    blocks: Sequence[Block],
    progress: Progress,
    pool: PartyPool | None,
    builder: CellBuilder | None,
    models: ModelsToKeep | None,
    rounds: Callable[[Rounds], None] | None,
) -> Finished:
    heard = None if rounds is None else lambda key, entry: rounds([(key, entry)])
    for block in blocks:

        def tell(done: int, total: int, block: Block = block) -> None:
            progress(block, done / total)

        yield block, run_block(block, tell, pool, builder, models, heard)
