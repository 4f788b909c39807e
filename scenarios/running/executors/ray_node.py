"""What a node of a Ray cluster does with a block: data from the node's object store, checks, rounds told, records."""

from __future__ import annotations

import pickle
import platform
import time
import traceback
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoflip_secure.errors import AutoflipError
from autoflip_secure.records.run import RoundRecord
from autoflip_secure.runtime.interrupts import interruptible
from autoflip_secure.runtime.library_warnings import tame
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.data.datasets import Dataset
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.cutting import Results, attempt
from autoflip_secure.scenarios.running.executors.far import Expected
from autoflip_secure.scenarios.running.executors.ray_cluster import OPTION
from autoflip_secure.terminal import notes

_REPORT_EVERY = 0.25  # seconds
_warm: tuple[str, CellBuilder] | None = None  # of the data set that this process ran last


@dataclass(frozen=True)
class Parcel:
    """A block on its way."""

    block: Block
    expected: Expected  # without the data, which come along
    data: str  # names the data set in the object store
    live: bool  # rounds are wanted too


@dataclass(frozen=True)
class Said:
    """What a block in flight has to say."""

    share: float  # of it that is done
    rounds: tuple[tuple[str, RoundRecord], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a block came to: records, or what went wrong."""

    machine: str
    records: Results | None = None
    error: AutoflipError | None = None
    failed: tuple[str, str] | None = None  # what, and the traceback
    notes: tuple[str, ...] = ()


def packed(data: Dataset) -> dict[str, Any]:
    """A data set as arrays, which Ray keeps in memory that all processes of a node share."""
    return {field.name: _as_array(getattr(data, field.name)) for field in fields(data)}


def unpacked(values: dict[str, Any]) -> Dataset:
    """The data set in memory of this process, which may be written to, as it lay where it was packed."""
    found: dict[str, Any] = {name: _as_tensor(*value) if _is_array(value) else value for name, value in values.items()}
    return Dataset(**found)


def _as_array(value: Any) -> Any:
    """A tensor as (array, order of its dimensions in memory); anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    order = value.dim_order()
    return value.permute(order).contiguous().numpy(), order


def _is_array(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], np.ndarray)


def _as_tensor(array: NDArray[Any], order: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.array(array, order="C")).permute([order.index(place) for place in range(len(order))])


def run(parcel: bytes, data: Any, mailbox: Any) -> bytes:
    """Run a block, whatever happens; a pickled :class:`Answer`.

    Args:
        parcel: a pickled :class:`Parcel`.
        data: reference to its :func:`packed` data set.
        mailbox: an actor that is told of progress.

    Raises:
        SystemExit: this process is to end, as when its node leaves the cluster. What became of the block then says
            nothing of it, and Ray tells the sweep that the process died.
    """
    try:
        with interruptible() as signals:
            answer = _answer(parcel, data, mailbox)
    except KeyboardInterrupt:
        if not signals:
            raise
    if signals:
        raise SystemExit(1)
    return pickle.dumps(answer)


def _answer(parcel: bytes, data: Any, mailbox: Any) -> Answer:
    tame()
    heard: list[str] = []
    notes.begin(heard.append)
    machine = platform.node()
    try:
        one: Parcel = pickle.loads(parcel)
        builder = _builder(one, data)
        one.expected.check(one.block, builder, machine, OPTION)
        return Answer(machine, _run(one, builder, mailbox, heard), notes=tuple(heard))
    except AutoflipError as error:
        return Answer(machine, error=error, notes=tuple(heard))
    except (Exception, SystemExit) as error:  # a model of the user's own may end the program
        return Answer(machine, failed=(f"{type(error).__name__}: {error}", traceback.format_exc()), notes=tuple(heard))


def _builder(one: Parcel, data: Any) -> CellBuilder:
    """One that has the data of the block: what this process ran last, or out of the node's object store."""
    global _warm  # noqa: PLW0603 - Ray keeps the process for the next block
    if _warm is None or _warm[0] != one.data:
        import ray

        _warm = one.data, CellBuilder()
        settings = one.block.cells[0].settings
        _warm[1].once("data", lambda: unpacked(ray.get(data)), settings, ("data",))
    _warm[1].dataset(one.block.cells[0].settings)  # as the model takes it, for the blocks after this one too
    return _warm[1]


def _run(one: Parcel, builder: CellBuilder, mailbox: Any, heard: list[str]) -> Results:
    last = time.monotonic()
    rounds: list[tuple[str, RoundRecord]] = []

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _REPORT_EVERY:
            last = time.monotonic()
            said = Said(done / total, tuple(rounds), tuple(heard))
            rounds.clear()
            heard.clear()
            mailbox.put.remote(one.block.keys[0], pickle.dumps(said))

    def keep(key: str, entry: RoundRecord) -> None:
        rounds.append((key, entry))

    return attempt(one.block, progress, builder=builder, heard=keep if one.live else None)
