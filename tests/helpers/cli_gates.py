"""Scenarios for the command `gate`, and sweeps whose cells were changed."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked

from autoflip_secure.files.checksums import sealed, unsealed

ROOT = Path(__file__).parents[2]
SCENARIO = """
name: small
clients: 10
cohort: 5
rounds: 4
training: {epochs: 2, batch_size: 16}
exploration: {epochs: 2}
model: {kind: mlp, hidden: [32]}
data: {kind: digits, train_samples: 800}
seeds: {first: 10, count: 4}
sweep:
  product:
    attack: [none, {kind: gaussian_noise, sigma: 2.0, scope: 0.4}]
    algorithm: [fedavg, agreement_only]
"""
PRIVATE = """
name: private
clients: 4
cohort: 2
rounds: 2
training: {epochs: 1, batch_size: 16, lr: 0.5}
exploration: {epochs: 1}
model: {kind: mlp, hidden: [8]}
data: {kind: digits, train_samples: 200, test_samples: 60}
partition: iid
privacy: {kind: sample_level, clip: 1.0, noise_multiplier: 1.0}
seeds: [10, 11]
"""


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.run(*arguments, cwd=ROOT, env={"GITHUB_STEP_SUMMARY": "", **environment})


def edited(finished: Path, folder: Path, change: Callable[[dict[str, Any], dict[tuple[Any, ...], Any]], None]) -> Path:
    """A copy of the sweep with its cells changed; ``change`` gets one record and all of them by what they are."""
    copy = Path(shutil.copytree(finished / "run", folder / "edited"))
    records = {path: json.loads(unsealed(path.read_bytes())) for path in sorted((copy / "cells").glob("*.json"))}
    known = {(r["algorithm"], r["config"]["attack"]["kind"], r["seed"]): dict(r) for r in records.values()}
    for path, record in records.items():
        change(record, known)
        path.write_text(sealed(json.dumps(record)))
    return copy
