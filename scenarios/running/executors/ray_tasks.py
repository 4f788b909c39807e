"""Blocks as tasks of Ray: what is sent, what comes back, and what blocks in flight say meanwhile."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.config.settings import Settings
from autoflip_secure.scenarios.running.cutting import Results
from autoflip_secure.scenarios.running.executors import ray_envelope
from autoflip_secure.scenarios.running.executors.base import CONTINUE, Task
from autoflip_secure.scenarios.running.executors.far import Expected
from autoflip_secure.scenarios.running.executors.ray_cluster import OPTION
from autoflip_secure.scenarios.running.executors.ray_node import Answer, Parcel, Said, packed
from autoflip_secure.scenarios.running.executors.ray_room import Needs, needs
from autoflip_secure.terminal import notes
from autoflip_secure.version import __version__

_HEAR_EVERY = 0.25  # seconds
_LAST_WORDS = 2.0  # seconds that what was said before the end may take to arrive
_FULL = (
    "Ray has no room for it ({error}); give the cluster more with `ray start --object-store-memory`, free disk space "
    "where Ray spills to, or sweep over fewer data sets at once"
)


@dataclass(frozen=True)
class Lost:
    """A block that came to nothing, through no fault that anybody can see in it."""

    why: str


class _BlockError(Exception):
    """Carries a node's traceback as text into the one here."""


class Tasks:
    """The blocks of one sweep that Ray has."""

    def __init__(self, ray: Any, blocks: Sequence[Block], task: Task) -> None:
        """Put the data sets where nodes find them, and what is to open blocks there.

        Raises:
            AutoflipError: the object store is full.
        """
        self._ray, self._task = ray, task
        self.needs: dict[str, Needs] = {block.keys[0]: needs(block, task.builder) for block in blocks}
        self._data: dict[str, Any] = {}
        for block in blocks:
            self._put(block)
        task.builder.forget()
        ray.cloudpickle.register_pickle_by_value(ray_envelope)
        # as close as can be to the sweep, and of no weight: it takes messages while others compute
        near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        mailbox = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=near)(ray_envelope.Mailbox)
        self._mailbox = mailbox.remote()
        self._open = ray.remote(max_retries=0)(ray_envelope.opened)
        self._flying: dict[Any, Block] = {}
        self._post: Any = None
        self._next = time.monotonic() + _HEAR_EVERY
        self._rounds: dict[str, int] = {}  # key of a cell -> the last round that somebody was told of

    def __len__(self) -> int:
        return len(self._flying)

    @property
    def blocks(self) -> list[Block]:
        """Those that Ray has now."""
        return [*self._flying.values()]

    def send(self, block: Block, most: float) -> None:
        """Give a block to Ray; ``most``: bytes of the largest machine, which no task can ask more than."""
        wanted, name = self.needs[block.keys[0]], _data_name(block.cells[0].settings)
        along = {what: digest for what, digest in self._task.inputs.items() if not what.startswith("data ")}
        parcel = Parcel(block, Expected.of(block, along), self._data[name].hex(), self._task.rounds is not None)
        options = self._open.options(
            name=block.label, num_cpus=wanted.cpus, num_gpus=wanted.gpus, memory=int(min(wanted.memory, most))
        )
        places = [place or os.getcwd() for place in sys.path]
        ref = options.remote(__version__, os.getcwd(), places, pickle.dumps(parcel), [self._data[name]], self._mailbox)
        self._flying[ref] = block

    def landed(self) -> list[tuple[Block, Results | Lost]]:
        """What came back, in a fraction of a second; nothing, usually.

        Raises:
            AutoflipError: a block failed, or the cluster is gone; names the block.
        """
        self._ask()
        asked = [] if self._post is None else [self._post]
        patience = max(0.0, min(_HEAR_EVERY, self._next - time.monotonic())) if not asked else _HEAR_EVERY
        try:
            ready, _ = self._ray.wait([*self._flying, *asked], num_returns=1, timeout=patience)
        except self._ray.exceptions.RayError as error:
            raise AutoflipError(f"{OPTION}: the cluster cannot be reached any more; {CONTINUE}") from error
        if self._post in ready:
            self._hear()
        back = [(ref, self._flying.pop(ref)) for ref in ready if ref in self._flying]
        return [(block, self._outcome(ref, block)) for ref, block in back]

    def close(self) -> None:
        """Stop what still runs, in mid-block; hear the last words of what has ended."""
        flying, self._flying = self._flying, {}
        with contextlib.suppress(Exception):  # of Ray, where the cluster is gone
            for ref in flying:
                self._ray.cancel(ref, force=True)
            self._next = 0.0
            self._ask()
            if self._post is not None and self._ray.wait([self._post], timeout=_LAST_WORDS)[0]:
                self._hear()
            self._ray.kill(self._mailbox)

    def _put(self, block: Block) -> None:
        settings = block.cells[0].settings
        name, errors = _data_name(settings), self._ray.exceptions
        if name not in self._data:
            try:
                self._data[name] = self._ray.put(packed(self._task.builder.data(settings)))
            except (errors.ObjectStoreFullError, errors.OutOfDiskError) as error:
                why = _FULL.format(error=type(error).__name__)
                raise AutoflipError(f"{OPTION}: the data of {block.label} go to every node, and {why}") from error

    def _ask(self) -> None:
        if self._post is None and time.monotonic() >= self._next:
            self._post = self._mailbox.take.remote()

    def _hear(self) -> None:
        """Pass on what the mailbox held."""
        try:
            messages = self._ray.get(self._post)
        except self._ray.exceptions.RayError:  # the mailbox is gone, and with it some progress; Ray starts another
            messages = []
        self._post, self._next = None, time.monotonic() + _HEAR_EVERY
        flying = {block.keys[0]: block for block in self._flying.values()}
        for index, message in messages:
            said: Said = pickle.loads(message)
            for text in said.notes:
                notes.once(text)
            if index in flying:
                new = [(key, one) for key, one in said.rounds if one.round > self._rounds.get(key, -1)]
                self._rounds |= {key: one.round for key, one in new}
                if self._task.rounds is not None and new:
                    self._task.rounds(new)
                self._task.progress(flying[index], said.share)

    def _outcome(self, ref: Any, block: Block) -> Results | Lost:
        errors = self._ray.exceptions
        try:
            kind, content = self._ray.get(ref)
        except errors.NodeDiedError as error:
            node = re.search(r"Node IP: (\S+?),", str(error))
            return Lost(f"its node{f' ({node[1]})' if node else ''} died")
        except errors.WorkerCrashedError:
            return Lost("its process died")
        except errors.OutOfMemoryError:
            return Lost("memory ran out on its node")
        except errors.ObjectLostError:
            return Lost("what it reads or gives was on a node that died")
        except errors.LocalRayletDiedError as error:
            raise AutoflipError(
                f"{OPTION}: the node on this machine died, through which the sweep reaches the cluster; if it was "
                f"there before the sweep, start it again (ray start); {CONTINUE}"
            ) from error
        except errors.RayError as error:
            why = " ".join(str(error).split())
            raise AutoflipError(f"{block.label} failed on the cluster: {why:.300}; {CONTINUE}") from error
        if kind == "refused":
            why = f"{content.decode()}; install the same on every machine, or leave out {OPTION}"
            raise InputError(f"{block.label}: {why}")
        return self._records(block, pickle.loads(content))

    def _records(self, block: Block, answer: Answer) -> Results:
        for text in answer.notes:
            notes.once(text)
        if answer.error is not None:
            raise answer.error
        if answer.failed is not None:
            what, where = answer.failed
            if what.startswith(("ObjectStoreFullError", "OutOfDiskError")):
                what = f"its data do not fit on {answer.machine}: {_FULL.format(error=what.partition(':')[0])}"
            raise AutoflipError(f"{block.label} failed: {what}") from _BlockError(where)
        assert answer.records is not None
        return answer.records


def _data_name(settings: Settings) -> str:
    return canonical(settings.data.model_dump(mode="json"))
