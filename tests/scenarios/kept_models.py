"""A sweep that keeps its models."""

from pathlib import Path

from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, SweepResult, run_sweep

TINY = """
name: tiny
clients: 5
cohort: 3
rounds: 4
training: {epochs: 2, batch_size: 32, lr: 0.2}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 300, test_samples: 60}
model: {kind: mlp, hidden: [12]}
seeds: [1, 2]
sweep: {product: {algorithm: [fedavg, autoflip_plus]}}
"""

PRIVATE = "privacy={kind: sample_level, clip: 1.0, noise_multiplier: 1.0, noise_source: NOISE}"
FEW = ("seeds=[1]", "rounds=1", "sweep=null", "algorithm=fedavg")


def tiny(*overrides: str) -> Plan:
    return plan(resolve(Document.parse(TINY, "tiny.yaml"), overrides))


def run(work: Plan, folder: Path, *, keep: bool = True, workers: int = 1) -> tuple[SweepResult, list[str]]:
    notes: list[str] = []
    return run_sweep(work, folder, workers, Listener(lambda *_: None, notes.append), keep_models=keep), notes


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "models").glob("*")}
