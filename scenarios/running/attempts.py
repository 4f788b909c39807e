"""Attempts at private cells in a sweep: in their ledgers before they begin, counted in their records after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder, planned_releases, recounted
from autoflip_secure.scenarios.store.ledgers import (
    Attempts,
    announce,
    refuse_without_ledger,
    under_conditions,
    without_ledger,
)
from autoflip_secure.scenarios.store.store import Store


class Counting:
    """The ledgers of one sweep."""

    def __init__(
        self, store: Store, records: dict[str, RunRecord], builder: CellBuilder, inputs: Mapping[str, str]
    ) -> None:
        """``records``: of finished cells, put right where their block runs again; ``inputs``: what cells read."""
        self._store, self._records, self._builder, self._inputs = store, records, builder, inputs
        self._tried: dict[str, Attempts] = {}

    def announce(self, todo: Sequence[Block], note: Callable[[str], None]) -> None:
        """Write the ledgers of what is about to run, before it does; a block is run whole, finished cells too.

        Raises:
            StoreError: what was released before cannot be counted, or a ledger cannot be written.
        """
        store = self._store
        begun = store.begun() | {key for key, record in self._records.items() if record.privacy is not None}
        refuse_without_ledger(store.folder, begun & {key for block in todo for key in block.keys})
        tried = self._begin(todo)
        for sentence in without_ledger(store.folder, begun):
            note(sentence)
        if tried:
            store.note_begun(tried)
        self._count_again(todo)

    def again(self, block: Block) -> Block:
        """One block that was begun is to begin once more; gives it as it is to run, under the conditions of now.

        The attempt is in the ledgers of its private cells before this returns. It repeats the releases of the attempt
        before, but with ``noise_source: system``, where it releases something new and is counted as that.

        Raises:
            StoreError: a ledger cannot be written.
        """
        (now,) = under_conditions([block], self._inputs)
        self._begin([now])
        self._count_again([now])
        return now

    def counted(self, block: Block, record: RunRecord) -> RunRecord:
        """``record``, whose ledger counts every attempt that may have released something else."""
        return with_attempts(block, self._tried, self._builder, record)

    def _begin(self, blocks: Sequence[Block]) -> dict[str, Attempts]:
        with self._store.explained():
            tried = announce(self._store.folder, planned_releases(blocks, self._builder))
        self._tried |= tried
        return tried

    def _count_again(self, blocks: Iterable[Block]) -> None:
        """Finished cells of the blocks that run release once more."""
        for block in blocks:
            for key in self._records.keys() & set(block.keys):
                counted = self.counted(block, self._records[key])
                if counted != self._records[key]:
                    self._records[key] = self._store.save(counted)


def with_attempts(block: Block, tried: Mapping[str, Attempts], builder: CellBuilder, record: RunRecord) -> RunRecord:
    """The ledger in the record counts every attempt that may have released something else."""
    attempts = tried.get(record.cell)
    if attempts is None or attempts.attempts == 1:
        return record
    return record.model_copy(update={"privacy": recounted(block, record.cell, attempts, builder)})
