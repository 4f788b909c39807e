"""Worker processes: started once, one pipe each, one block at a time, gone when their parent is gone.

Own processes rather than a pool of the standard library or joblib's loky, for what a sweep needs, and what tests hold
ours and loky to (``tests/scenarios/running/test_pools.py``): when a process dies, the block that it was on is named,
and what killed it; rounds are told while blocks still run; nobody outlives a parent that is killed. To stop in
mid-block is no reason by itself: loky can (``kill_workers``), and the standard library from Python 3.14 on.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from typing import ClassVar

from autoflip_secure.errors import AutoflipError
from autoflip_secure.records.run import RoundRecord
from autoflip_secure.runtime.processes import start
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.cutting import Results, TooLarge
from autoflip_secure.scenarios.running.executors.base import CONTINUE, Executor, Finished, Rounds, Task
from autoflip_secure.scenarios.running.parties import PartyPool
from autoflip_secure.scenarios.store.checkpoints import ModelsToKeep
from autoflip_secure.terminal import notes

_REPORT_EVERY = 0.25  # seconds
_IMPORTS = (
    "autoflip_secure.scenarios.running.cutting",
    "torch.fx.experimental.symbolic_shapes",
    "sklearn.metrics",
)  # the others are imported in every block
_LINGER = 5.0  # seconds a stopped worker may take to go


class _WorkerError(Exception):
    """Carries a worker's traceback as text into the parent's."""


def _main(pipe: Connection, pool: PartyPool | None, models: ModelsToKeep | None, live: bool) -> None:
    """What a worker does: take a block, run it, send the records back, until the pipe closes; ``live``: rounds too."""
    from autoflip_secure.scenarios.running.cutting import attempt

    heard: list[_Note] = []  # sent from one place only, whichever thread warns
    notes.begin(lambda text: heard.append(_Note(text)))

    def say(message: object) -> None:
        while heard:
            pipe.send(heard.pop(0))
        pipe.send(message)

    builder = CellBuilder()  # data and explorers of earlier blocks
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
            say(attempt(block, progress, pool, builder, models, keep if live else None))
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


class Workers(Executor):
    """Blocks in processes of this machine; one with --workers 2 and more."""

    option: ClassVar[str] = "--workers"
    here: ClassVar[bool] = True

    def workers(self, asked: int | None, blocks: Sequence[Block], builder: CellBuilder) -> int:
        """As many as were asked for, and no more than there are blocks."""
        return max(1, min(asked or len(blocks), len(blocks)))

    def run(self, blocks: Sequence[Block], workers: int, task: Task) -> Finished:
        """Yield every block with its records, as they finish. Closing the generator stops the processes at once.

        Raises:
            AutoflipError: a worker died or failed; names the block. Whatever was yielded before is whole.
        """
        task.builder.forget()
        waiting = deque(blocks)
        team: list[_Worker] = []
        try:
            for _ in range(min(workers, len(blocks))):
                here, there = Pipe()
                process = start(_main, there, task.pool, task.models, task.rounds is not None, imports=_IMPORTS)
                there.close()
                team.append(_Worker(process, here))
            for worker in team:
                _give(worker, waiting)
            while busy := [worker for worker in team if worker.block is not None]:
                ready = wait([thing for w in busy for thing in (w.pipe, w.process.sentinel)])
                for worker in busy:
                    if worker.pipe in ready or worker.process.sentinel in ready:
                        finished = _receive(worker, task)
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


def _receive(worker: _Worker, task: Task) -> tuple[Block, Results] | None:
    """What a worker has to say: progress or rounds (None), or its finished block."""
    assert worker.block is not None
    try:
        message = worker.pipe.recv() if worker.pipe.poll() else None
    except (EOFError, OSError):
        message = None
    if isinstance(message, float):
        task.progress(worker.block, message)
        return None
    if isinstance(message, _Rounds):
        if task.rounds is not None:
            task.rounds(message.entries)
        return None
    if isinstance(message, _Note):
        notes.once(message.text)
        return None
    if isinstance(message, list | TooLarge):
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
    return f"the worker process on {label} died ({how}); {CONTINUE}"


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
