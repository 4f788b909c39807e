"""Blocks on this machine: in this process, or in worker processes where that saves time.

The automatic choice takes as many workers as there are cores and blocks when that saves more time than the
seconds that a worker needs to start; a GPU is left to one process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.cutting import attempt
from autoflip_secure.scenarios.running.executors.base import Executor, Finished, Task
from autoflip_secure.scenarios.running.executors.workers import Workers
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


class Here(Executor):
    """Blocks one after the other, in this process."""

    option: ClassVar[str] = "--workers 1"
    here: ClassVar[bool] = True

    def workers(self, asked: int | None, blocks: Sequence[Block], builder: CellBuilder) -> int:
        """One."""
        return 1

    def run(self, blocks: Sequence[Block], workers: int, task: Task) -> Finished:
        """Yield every block with its records; what the builder knows already is used."""
        rounds = task.rounds
        heard = None if rounds is None else lambda key, entry: rounds([(key, entry)])
        for block in blocks:

            def tell(done: int, total: int, block: Block = block) -> None:
                task.progress(block, done / total)

            yield block, attempt(block, tell, task.pool, task.builder, task.models, heard)


class Local(Executor):
    """This machine: worker processes where they pay, else this process."""

    option: ClassVar[str] = "--engine local"
    here: ClassVar[bool] = True

    def workers(self, asked: int | None, blocks: Sequence[Block], builder: CellBuilder) -> int:
        """See :func:`choose_workers`."""
        return asked if asked is not None else choose_workers(blocks, builder)

    def run(self, blocks: Sequence[Block], workers: int, task: Task) -> Finished:
        """In this process with one worker or one block, else in :class:`.Workers`."""
        where = Workers() if workers > 1 and len(blocks) > 1 else Here()
        yield from where.run(blocks, workers, task)
