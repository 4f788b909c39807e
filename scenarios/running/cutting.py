"""Blocks that do not fit into memory are run in parts: cut before they run where that is plain, else when it shows.

Before: what a block takes is estimated (:func:`needed`) and held against what the device has. The estimate is rough, so
when memory runs out all the same, what was begun is thrown away, the block is halved, and the halves run in its place.
On a processor the numbers of most models are equal to the bit either way (:mod:`autoflip_secure.training.bits`); the
record says how many cells were one program. A private cell that was begun in vain is an attempt like any other: its
ledger is written before the second one (:func:`.tried_again`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from autoflip_secure.errors import InputError
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.run import RoundRecord, RunRecord, TrainerChoice
from autoflip_secure.runtime.memory import give_back, memory_of, out_of_memory
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.config.protocols import protocol
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.parties import PartyPool
from autoflip_secure.scenarios.store.checkpoints import ModelsToKeep
from autoflip_secure.scenarios.store.ledgers import tried_again
from autoflip_secure.training.base import resolve_device
from autoflip_secure.training.stacked import BUDGET

_FLOAT = 4  # bytes
_SHARE = {"cpu": 0.6, "cuda": 0.8}
"""Of a device's memory that blocks may be estimated to take: a processor's has the system and other programs in it."""
_SERVER = 12  # rows of a cell that stay: weights, mask, guidance and what a round makes of them
_TRAINING = 4  # rows of a client while it trains: start, end, update, and the one that it sends
_EXPLORING = 5  # and of an explorer: its deviation stays
_STACKED = 6  # tensors like those of a step that are there at once: leaves, gradients, optimiser, what makes them
_TABLE = 28  # bytes that the order of one sample in one epoch takes: places and labels as int64, weights, trace


@dataclass(frozen=True)
class TooLarge:
    """A block that did not fit into memory, instead of its records."""

    why: str  # what the allocator said
    same: bool  # a cell's numbers are known to be equal to the bit whatever runs beside it


Results = list[RunRecord] | TooLarge


def attempt(
    block: Block,
    progress: Callable[[int, int], None] | None = None,
    pool: PartyPool | None = None,
    builder: CellBuilder | None = None,
    models: ModelsToKeep | None = None,
    heard: Callable[[str, RoundRecord], None] | None = None,
) -> Results:
    """:func:`.run_block`, or that memory ran out; then all that it made is gone."""
    how: list[TrainerChoice] = []
    try:
        records = run_block(block, progress, pool, builder, models, heard, how.append)
    except (MemoryError, RuntimeError) as error:
        if (why := out_of_memory(error)) is None:
            raise
    else:
        return records if block.of is None else [_in_part(record, block) for record in records]
    give_back(resolve_device(block.cells[0].settings.device))  # here, where no error holds on to what was made
    return TooLarge(why, bool(how) and (how[0].device, how[0].bits) == ("cpu", "stack"))


def _in_part(record: RunRecord, block: Block) -> RunRecord:
    trainer = record.trainer.model_copy(update={"together": len(block.cells)})
    return record.model_copy(update={"trainer": trainer})


def halves(block: Block, found: TooLarge) -> list[Block]:
    """What runs in place of a block that was too large.

    Raises:
        InputError: it is one cell.
    """
    count = len(block.cells)
    if count == 1:
        raise InputError(
            f"{block.label}: one cell alone needs more memory than there is ({found.why}); take a smaller model, fewer "
            "clients in a round (cohort) or explorers (exploration.explorers), fewer --workers, or another device; "
            "finished cells are kept"
        )
    return [tried_again(part, same=found.same) for part in _parts(block, -(-count // 2))]


def cut_to_fit(blocks: Iterable[Block], builder: CellBuilder, workers: int) -> Iterator[Block]:
    """The blocks, those that are estimated to take more than a worker's share of the device in parts of equal size."""
    for block in blocks:
        device = resolve_device(block.cells[0].settings.device)
        there, (fixed, each) = memory_of(device), needed(block, builder)
        if there is None:
            yield block
            continue
        fit = int((_SHARE[device.type] * there / workers - fixed) // each)
        parts = -(-len(block.cells) // max(1, fit))
        yield from _parts(block, -(-len(block.cells) // parts)) if parts > 1 else [block]


def needed(block: Block, builder: CellBuilder) -> tuple[int, int]:
    """Bytes that a block takes at its peak, roughly: once for the block, and for each cell, the largest of them."""
    first = block.cells[0]
    layout, data = Layout.of(builder.module(first.settings, first.seed)), builder.dataset(first.settings)
    rows, tables = 0, 0
    for spec in block.cells:
        settings, wanted = spec.settings, protocol(spec.settings)
        explorers = wanted.exploration.count(settings.clients) if wanted.explores else 0
        rows = max(rows, _SERVER + max(_TRAINING * settings.cohort, _EXPLORING * explorers) + explorers)
        samples = len(data.y_train) / settings.clients
        epochs = max(settings.cohort * settings.training.epochs, explorers * wanted.exploration.epochs)
        tables = max(tables, int(_TABLE * samples * epochs))
    device = resolve_device(first.settings.device)
    tensors = (data.x_train, data.y_train, data.x_test, data.y_test)
    fixed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return fixed + _STACKED * _FLOAT * BUDGET[device.type], rows * _FLOAT * layout.size + tables


def _parts(block: Block, size: int) -> list[Block]:
    cells, whole = block.cells, block.of or len(block.cells)
    return [replace(block, cells=cells[first : first + size], of=whole) for first in range(0, len(cells), size)]
