"""Worker processes: started once, one pipe each, one block at a time, gone when their parent is gone.

Own processes rather than ``ProcessPoolExecutor``: a pool cannot be stopped in mid-block on Ctrl-C, and when a process
dies it cannot say which block it was on or what killed it.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess

from autoflip_secure.errors import AutoflipError
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.runtime.processes import start
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.parties import PartyPool
from autoflip_secure.scenarios.store.checkpoints import ModelsToKeep
from autoflip_secure.terminal import notes

Progress = Callable[[Block, float], None]  # a block in flight, and its share done
Rounds = Sequence[tuple[str, RoundRecord]]  # keys of cells, and what their records say of rounds
Finished = Generator[tuple[Block, list[RunRecord]], None, None]  # blocks with their records, as they finish
_REPORT_EVERY = 0.25  # seconds
_IMPORTS = (
    "autoflip_secure.scenarios.running.build",
    "torch.fx.experimental.symbolic_shapes",
    "sklearn.metrics",
)  # the others are imported in every block
_LINGER = 5.0  # seconds a stopped worker may take to go


class _WorkerError(Exception):
    """Carries a worker's traceback as text into the parent's."""


def _main(pipe: Connection, pool: PartyPool | None, models: ModelsToKeep | None, live: bool) -> None:
    """What a worker does: take a block, run it, send the records back, until the pipe closes; ``live``: rounds too."""
    from autoflip_secure.scenarios.running.build import run_block

    heard: list[_Note] = []  # sent from one place only, whichever thread warns
    notes.begin(lambda text: heard.append(_Note(text)))

    def say(message: object) -> None:
        while heard:
            pipe.send(heard.pop(0))
        pipe.send(message)

    while True:
        try:
            block = pipe.recv()
        except EOFError:
            return
        last = time.monotonic()
        rounds: list[tuple[str, RoundRecord]] = []

        def progress(done: int, total: int, rounds: list[tuple[str, RoundRecord]] = rounds) -> None:
            nonlocal last
            if time.monotonic() - last >= _REPORT_EVERY:
                last = time.monotonic()
                if rounds:
                    say(_Rounds(tuple(rounds)))
                    rounds.clear()
                say(done / total)

        def keep(key: str, entry: RoundRecord, rounds: list[tuple[str, RoundRecord]] = rounds) -> None:
            rounds.append((key, entry))

        try:
            say(run_block(block, progress, pool, models=models, heard=keep if live else None))
        except AutoflipError as error:
            say(error)
        except (Exception, SystemExit) as error:  # a model of the user's own may end the program
            say((f"{type(error).__name__}: {error}", traceback.format_exc()))


@dataclass(frozen=True)
class _Note:
    """What a person should know; the parent says it, once for all workers."""

    text: str


@dataclass(frozen=True)
class _Rounds:
    """What the records of a block in flight say of rounds that are over."""

    entries: Rounds


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    block: Block | None = None


def run_in_workers(
    blocks: Sequence[Block],
    workers: int,
    progress: Progress,
    pool: PartyPool | None = None,
    models: ModelsToKeep | None = None,
    rounds: Callable[[Rounds], None] | None = None,
) -> Finished:
    """Yield every block with its records, as they finish. Closing the iterator stops the workers at once.

    Args:
        rounds: called with rounds of blocks in flight, a few times a second; None: nobody wants them.

    Raises:
        AutoflipError: a worker died or failed; names the block. Whatever was yielded before is whole.
    """
    waiting = deque(blocks)
    team: list[_Worker] = []
    try:
        for _ in range(min(workers, len(blocks))):
            here, there = Pipe()
            process = start(_main, there, pool, models, rounds is not None, imports=_IMPORTS)
            there.close()
            team.append(_Worker(process, here))
        for worker in team:
            _give(worker, waiting)
        while busy := [worker for worker in team if worker.block is not None]:
            ready = wait([thing for w in busy for thing in (w.pipe, w.process.sentinel)])
            for worker in busy:
                if worker.pipe in ready or worker.process.sentinel in ready:
                    finished = _receive(worker, progress, rounds)
                    if finished is not None:
                        _give(worker, waiting)
                        yield finished
    finally:
        _stop(team)


def _give(worker: _Worker, waiting: deque[Block]) -> None:
    worker.block = waiting.popleft() if waiting else None
    if worker.block is not None:
        try:
            worker.pipe.send(worker.block)
        except OSError:
            raise AutoflipError(_obituary(worker)) from None


def _receive(
    worker: _Worker, progress: Progress, rounds: Callable[[Rounds], None] | None
) -> tuple[Block, list[RunRecord]] | None:
    """What a worker has to say: progress or rounds (None), or its finished block."""
    assert worker.block is not None
    try:
        message = worker.pipe.recv() if worker.pipe.poll() else None
    except (EOFError, OSError):
        message = None
    if isinstance(message, float):
        progress(worker.block, message)
        return None
    if isinstance(message, _Rounds):
        if rounds is not None:
            rounds(message.entries)
        return None
    if isinstance(message, _Note):
        notes.once(message.text)
        return None
    if isinstance(message, list):
        return worker.block, message
    if isinstance(message, AutoflipError):
        raise message
    if isinstance(message, tuple):
        raise AutoflipError(f"{worker.block.label} failed: {message[0]}") from _WorkerError(message[1])
    raise AutoflipError(_obituary(worker))


def _obituary(worker: _Worker) -> str:
    worker.process.join(_LINGER)
    code = worker.process.exitcode
    how = f"exit code {code}"
    if code is not None and code < 0:
        known = {number.value: number.name for number in signal.Signals}
        how = known.get(-code, f"signal {-code}")
        if how == "SIGKILL":
            how += ", which is what the system does when memory runs out: try fewer --workers or a smaller model"
    label = worker.block.label if worker.block else "a worker"
    return (
        f"the worker process on {label} died ({how}); finished cells are kept, run the same command again to continue"
    )


def _stop(team: list[_Worker]) -> None:
    for worker in team:
        worker.process.terminate()
    for worker in team:
        worker.process.join(_LINGER)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()
        worker.process.close()
