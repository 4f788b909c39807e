"""Blocks without a sweep around them."""

import contextlib
from collections.abc import Iterator, Sequence

from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.executors.base import Finished, Progress, Task
from autoflip_secure.scenarios.running.executors.local import Local
from autoflip_secure.scenarios.running.parties import PartyPool


@contextlib.contextmanager
def running(
    blocks: Sequence[Block], workers: int, progress: Progress, pool: PartyPool | None = None
) -> Iterator[Finished]:
    """Finished blocks, as they come. Leaving the context stops what is still running."""
    with contextlib.closing(Local().run(blocks, workers, Task(progress, pool=pool or {}))) as stream:
        yield stream
