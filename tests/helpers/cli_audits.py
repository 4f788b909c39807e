"""A scenario for the command `audit`."""

import subprocess
from pathlib import Path

import forked

TINY = """
name: tiny
question: What <b>leaks</b>?
data: {kind: digits, train_samples: 400, test_samples: 200}
model: {kind: mlp, hidden: [8]}
partition: {kind: pathological, classes_per_client: 2}
clients: 6
cohort: 3
rounds: 3
training: {optimizer: sgd, lr: 0.3, batch_size: 16, epochs: 1}
exploration: {epochs: 1}
seeds: [21, 22]
sweep:
  - product: {algorithm: [fedavg, autoflip]}
  - product:
      algorithm: [fedavg, autoflip]
      privacy:
        - {kind: sample_level, clip: 1.0, target_epsilon: 3}
        - {kind: client_level, clip: 1.0, noise: distributed, noise_multiplier: 3}
"""


def command(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return forked.run(*arguments, cwd=folder)
