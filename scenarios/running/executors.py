"""Where blocks run: in this process, or in worker processes. The records are the same.

The automatic choice takes as many workers as there are cores and blocks when that saves more time than the
:data:`~.build.START_SECONDS` that a worker needs to start; a GPU is left to one process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import START_SECONDS, estimated_seconds, run_block
from autoflip_secure.scenarios.running.parties import Crews
from autoflip_secure.scenarios.running.workers import Finished, Progress, run_in_workers
from autoflip_secure.training.base import resolve_device


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_workers(blocks: Sequence[Block]) -> int:
    """How many workers ``--workers auto`` means for these blocks."""
    most = min(cores(), len(blocks))
    if most <= 1 or any(resolve_device(block.cells[0].settings.device).type != "cpu" for block in blocks):
        return 1
    seconds = sum(estimated_seconds(block) for block in blocks)
    return most if seconds / most + START_SECONDS < seconds else 1


@contextlib.contextmanager
def running(
    blocks: Sequence[Block], workers: int, progress: Progress, crews: Crews | None = None
) -> Iterator[Finished]:
    """Finished blocks, as they come. Leaving the context stops what is still running."""
    stream = (
        run_in_workers(blocks, workers, progress, crews)
        if workers > 1 and len(blocks) > 1
        else _run_here(blocks, progress, crews)
    )
    with contextlib.closing(stream):
        yield stream


def _run_here(blocks: Sequence[Block], progress: Progress, crews: Crews | None) -> Finished:
    for block in blocks:

        def tell(done: int, total: int, block: Block = block) -> None:
            progress(block, done / total)

        yield block, run_block(block, tell, crews)
