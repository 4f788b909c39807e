"""Helpers of the tests of secure sums in scenarios: a small scenario, its blocks, and records of a run with parties."""

from run_blocks import running

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.running.parties import PartyPool

SMALL = """
training: {epochs: 1, batch_size: 32}
exploration: {epochs: 2, method: linear}
data: {kind: digits, train_samples: 300, test_samples: 100}
model: {kind: mlp, hidden: [10]}
"""


def blocks_of(text: str, *overrides: str, block_cells: int = 4) -> tuple[Block, ...]:
    """The work of ``SMALL`` and ``text``."""
    return plan(resolve(Document.parse(SMALL + text, "s.yaml"), overrides), block_cells=block_cells).blocks


def run(work: tuple[Block, ...], pool: PartyPool, workers: int = 1) -> dict[str, RunRecord]:
    """Records by cell."""
    with running(work, workers, lambda block, share: None, pool) as stream:
        return {record.cell: record for _, records in stream for record in records}
