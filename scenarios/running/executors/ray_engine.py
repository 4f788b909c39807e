"""Blocks on a Ray cluster: each a task of its own, run again where a node is lost, its records written here alone.

Ray has as many blocks as it has room for, and a quarter more, so that no node waits for the next one; the others stay
here. Ray repeats nothing by itself: a block whose node or process has died is announced in its ledgers again, and only
then sent again, :data:`TRIES` times in all. Data sets are put into Ray's object store once, which brings each to a node
once, whatever number of its processes needs it.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from autoflip_secure.errors import AutoflipError
from autoflip_secure.scenarios.config.cells import CellSpec
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.executors.base import CONTINUE, Executor, Finished, Task
from autoflip_secure.scenarios.running.executors.local import cores
from autoflip_secure.scenarios.running.executors.ray_cluster import OPTION, connected, refuse_address
from autoflip_secure.scenarios.running.executors.ray_room import Crowd, needs, nodes, refuse_without_room, room
from autoflip_secure.scenarios.running.executors.ray_tasks import Lost, Tasks
from autoflip_secure.scenarios.store.ledgers import private
from autoflip_secure.terminal import notes

TRIES = 3
"""How often a block is begun whose node or process dies."""


@dataclass
class Ray(Executor):
    """``--engine ray``: a cluster at ``address`` (HOST:PORT), or one of this machine while the sweep runs."""

    address: str | None = None
    option: ClassVar[str] = OPTION
    without_models: ClassVar[str | None] = "models stay on the node that runs a block, and results are written here"
    without_parties: ClassVar[str | None] = "secure_sum reaches its parties from this machine only"
    _ray: Any = field(default=None, init=False)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)
    _room: int | None = field(default=None, init=False)  # blocks at once where nobody said how many: it may grow

    def refuse(self, cells: Sequence[CellSpec], workers: int | None, *, keep_models: bool) -> None:
        """Ray has to be installed, and a cluster that is named to answer."""
        super().refuse(cells, workers, keep_models=keep_models)
        refuse_address(self.address)

    @contextlib.contextmanager
    def open(self) -> Iterator[Executor]:
        """The cluster is reached, or started, when there is something to run, and left behind the context."""
        with self._stack:
            try:
                yield self
            finally:
                self._ray = None

    def workers(self, asked: int | None, blocks: Sequence[Block], builder: CellBuilder) -> int:
        """As many as were asked for, else as the cluster has room for.

        Raises:
            InputError: the cluster cannot be used, or has no node that could run one of the blocks.
        """
        if not blocks:
            return asked or 1
        there = nodes(self._connected(asked or cores()))
        wanted = {needs(block, builder) for block in blocks}
        refuse_without_room(there, wanted)
        self._room = min(max(room(there, one) for one in wanted), len(blocks)) if asked is None else None
        return self._room or min(asked or 1, len(blocks))

    def run(self, blocks: Sequence[Block], workers: int, task: Task) -> Finished:
        """Yield every block with its records, as they finish. Closing cancels what is with Ray, in mid-block.

        Raises:
            InputError: a node has other software or files than the sweep was started with.
            AutoflipError: a block failed, was lost :data:`TRIES` times, or no node is left; names it.
        """
        ray, waiting, tries = self._connected(workers), deque(blocks), Counter[str]()
        tasks, crowd = Tasks(ray, blocks, task), Crowd(ray, None if workers == self._room else workers)
        try:
            while waiting or len(tasks):
                wanted = tasks.needs[(waiting or tasks.blocks)[0].keys[0]]
                free = crowd.most(wanted) - len(tasks)
                for block in [waiting.popleft() for _ in range(min(free, len(waiting)))]:
                    tries[block.keys[0]] += 1
                    tasks.send(block, crowd.largest)
                for block, outcome in tasks.landed():
                    if isinstance(outcome, Lost):
                        waiting.appendleft(_again(block, outcome, tries[block.keys[0]], task))
                    else:
                        yield block, outcome
        finally:
            tasks.close()

    def _connected(self, cpus: int) -> Any:
        if self._ray is None:
            self._ray = self._stack.enter_context(connected(self.address, cpus))
        return self._ray


def _again(block: Block, lost: Lost, tries: int, task: Task) -> Block:
    """A block that was lost, as it is to run again; what it may have released is in the ledgers by then.

    Raises:
        AutoflipError: it was lost too often.
    """
    if tries >= TRIES:
        raise AutoflipError(f"{block.label}: {lost.why}, as in {tries - 1} attempts before; {CONTINUE}")
    counted = ", which its ledgers count" if any(map(private, block.cells)) else ""
    notes.once(f"{block.label} is run again{counted}: {lost.why} (attempt {tries} of {TRIES})")
    return task.again(block)
