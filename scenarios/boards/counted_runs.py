"""Private runs of an entry, run again: in the ledgers of a results folder before they begin, as those of a sweep."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.loading import LoadedScenario
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.running.attempts import Counting
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.store.ledgers import private
from autoflip_secure.scenarios.store.store import Store
from autoflip_secure.terminal.notes import remark


@contextlib.contextmanager
def counted_runs(
    scenario: LoadedScenario, blocks: Sequence[Block], inputs: Mapping[str, str], builder: CellBuilder, folder: Path
) -> Iterator[Callable[[Block, RunRecord], None]]:
    """Inside, what ``blocks`` release is in the ledgers of ``folder``; without a private cell there is no folder.

    Args:
        scenario: the board's with the defence, whose cells the blocks are of.
        blocks: each under the conditions of now.
        inputs: what they read -> its fingerprint.
        builder: of the cells.
        folder: a results folder of that scenario, or a new one; that of the entry counts what it repeats once.

    Yields:
        What keeps the record of a block that has run.

    Raises:
        StoreError: the folder is of another scenario, or a ledger is gone or cannot be written; nothing was released.
    """
    counted = [block for block in blocks if any(map(private, block.cells))]
    if not counted:
        yield lambda block, record: None
        return
    work = plan(scenario)
    with Store(folder) as store:
        store.accept(work)
        records = store.load(work.keys)
        store.claim(work, dict(inputs))
        counting = Counting(store, records, builder, inputs)
        counting.announce(counted, remark)

        def keep(block: Block, record: RunRecord) -> None:
            if record.privacy is not None and record.cell not in records:
                store.save(counting.counted(block, record))

        yield keep
