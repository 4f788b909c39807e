"""Blocks on other machines: through a ``concurrent.futures.Executor`` that a function of the user's own gives.

Dask's ``Client.get_executor()``, ``mpi4py.futures.MPIPoolExecutor``, ``ProcessPoolExecutor`` and others are such. A
block goes there whole, with what it has to find (data, source of plug-ins, and with privacy the software and processor
that its private draws follow from), and comes back as records; the results folder stays here. The module of the
function, and everything that a scenario names, has to be importable there too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from inspect import signature

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.plugins.factories import find
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.workers import Finished
from autoflip_secure.scenarios.store.fingerprints import input_digests, read_by
from autoflip_secure.scenarios.store.ledgers import conditions, private


@dataclass(frozen=True)
class Elsewhere:
    """Where blocks go, and what they have to find there."""

    target: str  # module.path:function
    inputs: Mapping[str, str]  # what is read -> digest, see :func:`.input_digests`

    def executor(self, workers: int) -> Executor:
        """What the function gives; it is called with ``workers`` if it takes an argument of that name.

        Raises:
            InputError: it cannot be found or called, or gives something else.
        """
        place = f"--executor {self.target}"
        make = find(place, self.target)
        try:
            found = make(workers=workers) if "workers" in signature(make).parameters else make()
        except (Exception, SystemExit) as error:  # it is the user's code: it can fail in any way
            raise InputError(f"{place}: failed with {type(error).__name__}: {error}; mend the function") from error
        if not isinstance(found, Executor):
            raise InputError(
                f"{place}: gave a {type(found).__name__}, expected a concurrent.futures.Executor; return one"
            )
        return found


def run_elsewhere(blocks: Sequence[Block], workers: int, where: Elsewhere) -> Finished:
    """Yield every block with its records, as they finish. Closing the iterator sends nothing more.

    Args:
        workers: blocks that are sent at once.

    Raises:
        InputError: there is no executor, or a machine would not give the numbers that this one would.
        AutoflipError: a block failed there, or the executor broke; names the block.
    """
    pool, waiting, flying = where.executor(workers), deque(blocks), dict[Future[list[RunRecord]], Block]()
    ended = False
    try:
        while waiting or flying:
            while waiting and len(flying) < workers:
                block = waiting.popleft()
                flying[pool.submit(_run, block, _needed(block, where.inputs), conditions())] = block
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                block = flying.pop(future)
                yield block, _records(block, future)
        ended = True
    finally:
        pool.shutdown(wait=ended, cancel_futures=not ended)


def _needed(block: Block, inputs: Mapping[str, str]) -> dict[str, str]:
    return {what: inputs[what] for spec in block.cells for what in read_by(spec.settings) if what in inputs}


def _records(block: Block, future: Future[list[RunRecord]]) -> list[RunRecord]:
    kept = "finished cells are kept, run the same command again to continue"
    try:
        return future.result()
    except AutoflipError:
        raise
    except BrokenExecutor as error:
        raise AutoflipError(f"the executor broke while it ran {block.label} ({error}); {kept}") from error
    except Exception as error:
        raise AutoflipError(f"{block.label} failed: {type(error).__name__}: {error}") from error


def _run(block: Block, inputs: Mapping[str, str], here: Mapping[str, str]) -> list[RunRecord]:
    """What is done there.

    Raises:
        InputError: what is read is not the same there; or a cell is private, and its noise would be another than the
            one that has been announced in its ledger.
    """
    builder = CellBuilder()
    found = input_digests((spec.settings for spec in block.cells), builder.data)
    if other := sorted(what for what, digest in inputs.items() if found.get(what) != digest):
        raise InputError(f"{block.label}: on the machine that was to run it, {other[0]} is not the same as here")
    there = conditions()
    if any(map(private, block.cells)) and there != here:
        other = sorted(what for what in here.keys() | there.keys() if here.get(what) != there.get(what))
        raise InputError(
            f"{block.label}: the machine that was to run it has another {', '.join(other)}, so its private noise would "
            "not be that of the ledger; start the sweep on such a machine, or leave out --executor"
        )
    return run_block(block, builder=builder)
