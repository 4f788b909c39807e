"""kill -9 at random moments of a real sweep: nothing finished is lost, nothing is wrong, nobody is left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import gone

from scenarios.store import read_record

ROOT = Path(__file__).parents[1]
SWEEP = """
name: killed
clients: 10
cohort: 4
rounds: 8
training: {epochs: 2}
exploration: {epochs: 2}
data: {kind: digits, train_samples: 600, test_samples: 100}
model: {kind: mlp, hidden: [24]}
seeds: {first: 0, count: 12}
sweep:
  product:
    partition: [iid, dirichlet]
    algorithm: [fedavg, autoflip, autoflip_plus]
    attack: [none, {kind: gaussian_noise, sigma: 0.5}]
"""


def start(folder: Path, workers: int) -> subprocess.Popen[bytes]:
    arguments = ["sweep", "killed.yaml", "--out", "out", "--workers", str(workers), "--no-report"]
    return subprocess.Popen(
        [sys.executable, "-m", "autoflip_secure", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(folder: Path, workers: int) -> dict[str, dict[str, object]]:
    with start(folder, workers) as process:
        _, stderr = process.communicate(timeout=280)
    assert process.returncode == 0, stderr.decode()
    return {path.stem: read_record(path).numbers() for path in (folder / "out" / "cells").glob("*.json")}


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again_a_sweep_ends_with_the_same_records(workers: int, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        (folder / "killed.yaml").write_text(SWEEP)
    began = time.monotonic()
    expected = finish(whole, 1)
    duration = time.monotonic() - began
    assert len(expected) == 144

    moments, kept = random.Random(workers), 0
    for _ in range(4):
        process = start(broken, workers)
        time.sleep(moments.uniform(0.2, 0.8) * duration)
        process.send_signal(signal.SIGKILL)  # the main process alone: its workers have to notice
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        assert gone(process.pid), "processes are left behind"
        cells = list((broken / "out" / "cells").glob("*.json")) if (broken / "out").exists() else []
        assert len(cells) >= kept, "a finished cell is lost"
        for path in cells:
            assert read_record(path).numbers() == expected[path.stem]
        kept = len(cells)
    assert finish(broken, workers) == expected
