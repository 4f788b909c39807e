"""What a block takes of a machine, and how many blocks the machines of a Ray cluster have room for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.executors.base import CONTINUE
from autoflip_secure.scenarios.running.executors.ray_cluster import OPTION, answers
from autoflip_secure.training.base import resolve_device

_PROCESS = 0.8 * 2**30  # bytes of a process that has imported torch
_STEP = 0.25 * 2**30  # needs are rounded up to it: blocks with equal needs are one queue of Ray's
_ROWS = 9  # of all parameters, per participant: what peaks of three models came to (MLPs of 32 and 2048 units, a CNN)
_STATE = 8  # and per cell: server, guidance, mask, best model, …
_LOOK_EVERY = 2.0  # seconds between two looks at which nodes there are
_ALONE_FOR = 60.0  # seconds without a node that could run a block
_SILENT_FOR = 30.0  # seconds without the head; after 60 Ray ends the program, with exit code 1


@dataclass(frozen=True)
class Needs:
    """Of one block."""

    cpus: float
    gpus: float
    memory: float  # bytes, of the machine and not of its GPU


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive, and what all tasks on it may take together."""

    cpus: float
    gpus: float
    memory: float  # bytes


def needs(block: Block, builder: CellBuilder) -> Needs:
    """What ``block`` takes: a core, a GPU where it trains on one, and roughly how much memory.

    Memory is that of a process with torch, of the data twice (as they are and as the model takes them), and of
    float32 rows for all participants of all cells at once. It leaves activations out: an estimate by which Ray decides
    how many blocks a machine can bear, not a bound.
    """
    first = block.cells[0]
    data = builder.data(first.settings)
    tensors = (data.x_train, data.y_train, data.x_test, data.y_test)
    parameters = sum(one.numel() for one in builder.module(first.settings, first.seed).parameters())
    rows = sum(_ROWS * spec.settings.cohort + _STATE for spec in block.cells)
    total = _PROCESS + 2 * sum(one.nbytes for one in tensors) + 4 * parameters * rows
    gpus = 1.0 if resolve_device(first.settings.device).type == "cuda" else 0.0
    return Needs(1.0, gpus, -(-total // _STEP) * _STEP)


def nodes(ray: Any) -> list[Node]:
    """The machines that are alive."""
    has = [one["Resources"] for one in ray.nodes() if one["Alive"]]
    return [Node(one.get("CPU", 0.0), one.get("GPU", 0.0), one.get("memory", inf)) for one in has]


def largest(there: Sequence[Node]) -> float:
    """Bytes of the machine with most."""
    return max((node.memory for node in there), default=0.0)


def room(there: Sequence[Node], wanted: Needs) -> int:
    """Blocks that all machines run at once; none asks for more memory than the largest machine has.

    >>> room([Node(2, 0, 4e9), Node(8, 0, 4e9)], Needs(1, 0, 1e9))
    6
    >>> room([Node(2, 0, 4e9)], Needs(1, 1, 1e9))
    0
    """
    memory = min(wanted.memory, largest(there)) or 1.0
    ways = [(n.cpus / wanted.cpus, n.gpus / wanted.gpus if wanted.gpus else inf, n.memory / memory) for n in there]
    return sum(int(min(way)) for way in ways)


def refuse_without_room(there: Sequence[Node], wanted: Iterable[Needs]) -> None:
    """Every block has a machine that could run it.

    Raises:
        InputError: not so.
    """
    for one in wanted:
        if not room(there, one):
            what, way_out = ("core and a GPU (device: cuda)", "or set device: cpu") if one.gpus else ("core", "")
            raise InputError(
                f"{OPTION}: no node of the cluster has a {what} for a block; start nodes that have{way_out and ', '}"
                f"{way_out or ' (ray start --num-cpus N)'}"
            )


class Crowd:
    """The machines of a cluster, which come and go."""

    def __init__(self, ray: Any, asked: int | None) -> None:
        """``asked``: blocks that run side by side at most; None: as many as there is room for."""
        self._ray, self._asked = ray, asked
        self._nodes, self._looked = nodes(ray), time.monotonic()
        self._head: str = ray.get_runtime_context().gcs_address
        self._alone: float | None = None  # since when
        self._silent: float | None = None  # since when the head is

    @property
    def largest(self) -> float:
        """See :func:`largest`."""
        return largest(self._nodes)

    def most(self, wanted: Needs) -> int:
        """Blocks that Ray may have at once: as it has room for, and a quarter more that wait at the nodes.

        Raises:
            AutoflipError: for a minute there has been no machine that could run one, or for half a minute no head.
        """
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY:
            self._look(now)
        fit = room(self._nodes, wanted)
        self._alone = None if fit else self._alone or now
        if self._alone is not None and now - self._alone >= _ALONE_FOR:
            raise AutoflipError(f"{OPTION}: no node that could run a block is left in the cluster; {CONTINUE}")
        ahead = fit + (fit + 3) // 4
        return ahead if self._asked is None else min(self._asked, ahead)

    def _look(self, now: float) -> None:
        """Ask the head who is there; to ask one that is gone would wait until Ray ends the program."""
        self._looked = now
        if answers(self._head):
            self._nodes, self._silent = nodes(self._ray), None
            return
        self._silent = self._silent or now
        if now - self._silent >= _SILENT_FOR:
            raise AutoflipError(
                f"{OPTION}: the head of the cluster, {self._head}, has not answered for {_SILENT_FOR:g} seconds; if it "
                f"was there before the sweep, start it again (ray start --head); {CONTINUE}"
            )
