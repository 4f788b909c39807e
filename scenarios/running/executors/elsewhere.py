"""Blocks on other machines: through a ``concurrent.futures.Executor`` that a function of the user's own gives.

Dask's ``Client.get_executor()``, ``mpi4py.futures.MPIPoolExecutor``, ``ProcessPoolExecutor`` and others are such. A
block goes there whole, with what it has to find (:mod:`.far`), and comes back as records; the results folder stays
here. The module of the function, and everything that a scenario names, has to be importable there too.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from concurrent.futures import Executor as Futures
from dataclasses import dataclass
from inspect import signature
from typing import ClassVar

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.scenarios.config.cells import CellSpec
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.plugins.factories import find
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.cutting import Results, attempt
from autoflip_secure.scenarios.running.executors.base import CONTINUE, Executor, Finished, Task
from autoflip_secure.scenarios.running.executors.far import Expected


@dataclass(frozen=True)
class Elsewhere(Executor):
    """Where blocks go: ``module.path:function`` gives the pool, and is called with ``workers`` if it takes that."""

    target: str
    option: ClassVar[str] = "--executor"
    without_models: ClassVar[str | None] = "models are kept on the machine that runs a block"
    without_parties: ClassVar[str | None] = "secure_sum reaches its parties from this machine only"

    def refuse(self, cells: Sequence[CellSpec], workers: int | None, *, keep_models: bool) -> None:
        """The function has to be there, and the number of blocks to send at once has to be said."""
        find(f"{self.option} {self.target}", self.target)
        if workers is None:
            raise InputError(
                f"{self.option}: says where blocks run; give --workers N too, how many are sent there at once"
            )
        super().refuse(cells, workers, keep_models=keep_models)

    def workers(self, asked: int | None, blocks: Sequence[Block], builder: CellBuilder) -> int:
        """As many as were asked for; see :meth:`refuse`."""
        return asked or 1

    def run(self, blocks: Sequence[Block], workers: int, task: Task) -> Finished:
        """Send ``workers`` blocks at once; rounds of blocks in flight are not heard of. Closing sends nothing more.

        Raises:
            InputError: there is no executor, or a machine would not give the numbers that this one would.
            AutoflipError: a block failed there, or the executor broke; names the block.
        """
        task.builder.forget()
        pool, waiting, flying = self._pool(workers), deque(blocks), dict[Future[Results], Block]()
        ended = False
        try:
            while waiting or flying:
                while waiting and len(flying) < workers:
                    block = waiting.popleft()
                    flying[pool.submit(_run, block, Expected.of(block, task.inputs))] = block
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    block = flying.pop(future)
                    yield block, _records(block, future)
            ended = True
        finally:
            pool.shutdown(wait=ended, cancel_futures=not ended)

    def _pool(self, workers: int) -> Futures:
        """What the function gives.

        Raises:
            InputError: it cannot be found or called, or gives something else.
        """
        place = f"{self.option} {self.target}"
        make = find(place, self.target)
        try:
            found = make(workers=workers) if "workers" in signature(make).parameters else make()
        except (Exception, SystemExit) as error:  # it is the user's code: it can fail in any way
            raise InputError(f"{place}: failed with {type(error).__name__}: {error}; mend the function") from error
        if not isinstance(found, Futures):
            raise InputError(
                f"{place}: gave a {type(found).__name__}, expected a concurrent.futures.Executor; return one"
            )
        return found


def _records(block: Block, future: Future[Results]) -> Results:
    try:
        return future.result()
    except AutoflipError:
        raise
    except BrokenExecutor as error:
        raise AutoflipError(f"the executor broke while it ran {block.label} ({error}); {CONTINUE}") from error
    except Exception as error:
        raise AutoflipError(f"{block.label} failed: {type(error).__name__}: {error}") from error


def _run(block: Block, expected: Expected) -> Results:
    """What is done there.

    Raises:
        InputError: see :meth:`.Expected.check`.
    """
    builder = CellBuilder()
    expected.check(block, builder, f"the machine that was to run it ({platform.node()})", Elsewhere.option)
    return attempt(block, builder=builder)
