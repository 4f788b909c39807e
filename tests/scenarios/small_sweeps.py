"""A small sweep, and what it says while it runs."""

from pathlib import Path

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, SweepResult, run_sweep

TINY = """
name: tiny
clients: 5
cohort: 2
rounds: 2
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
seeds: [1, 2, 3]
sweep: {product: {algorithm: [fedavg, autoflip], rounds: [2, 3]}}
"""


def tiny(*overrides: str) -> Plan:
    return plan(resolve(Document.parse(TINY, "tiny.yaml"), overrides))


class Ear:
    """Hears what a sweep says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.progress: list[tuple[float, int]] = []

    def listener(self) -> Listener:
        return Listener(lambda done, total, left: self.progress.append((done, total)), self.notes.append)


def run(work: Plan, folder: Path, ear: Ear | None = None) -> SweepResult:
    return run_sweep(work, folder, 1, (ear or Ear()).listener())


def numbers(records: list[RunRecord]) -> list[dict[str, object]]:
    return [record.numbers() for record in records]
