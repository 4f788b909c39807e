"""Small runs to audit."""

from pathlib import Path

import torch

from autoflip_secure.federation.cell import Cell
from autoflip_secure.scenarios.audits.view import Effort
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.training import Trainer

BASE = """
name: audited
data: digits
model: {kind: mlp, hidden: [16]}
partition: {kind: pathological, classes_per_client: 2}
clients: 10
cohort: 5
training: {optimizer: sgd, lr: 0.3, batch_size: 16, epochs: 2}
exploration: {epochs: 1}
seeds: [21]
"""
SMALL = Effort(
    targets=3, shadows=8, rounds=2, models=2, federations=4, runs=120, samples=60, gradient_runs=40, client_runs=40,
    most=100,
)  # fmt: skip


def built(folder: Path, more: str, base: str = BASE) -> tuple[Cell, Trainer]:
    path = folder / "audited.yaml"
    path.write_text(base + more + ("" if "rounds:" in more else "rounds: 4\n"))
    block = plan(load(str(path))).blocks[0]
    builder = CellBuilder()
    trainer = builder.trainer(block.cells[0])
    return builder.cell(block.cells[0], block.cells[0], torch.device(trainer.device)), trainer


DISTRIBUTED = "algorithm: autoflip\nprivacy: {kind: client_level, clip: 1.0, noise: distributed, noise_multiplier: 4}\n"
