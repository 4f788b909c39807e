"""Trackers show a sweep while it runs: seen from another process, in the files that they write."""

import subprocess
import time
from pathlib import Path

import pytest
from built_wheel import Program, clean

SMALL = (
    "clients=4", "cohort=2", "rounds=400", "seeds=[21]", "sweep=null", "algorithm=fedavg", "attack=none", "suite=null",
    "tune=null", "model={kind: mlp, hidden: [64]}", "evaluate_every=10", "training.epochs=5",
)  # fmt: skip


@pytest.mark.timeout(900)  # a busy machine takes its time
@pytest.mark.slow
def test_a_sweep_is_seen_while_it_runs(program: Program, installed: Path, tmp_path: Path) -> None:
    """The event file of a cell is there, and grows, before the cell has a record; then it is complete."""
    options = [part for one in SMALL for part in ("--set", one)]
    command = ["sweep", "demo", "--out", "out", "--workers", "1", "--no-report", "--tensorboard", "tb", *options]
    sizes = set[int]()
    with subprocess.Popen([installed / "autoflip-secure", *command], cwd=tmp_path, env=clean()) as running:
        while running.poll() is None:
            files = list(tmp_path.glob("tb/*/*/events.*"))
            if files and not list(tmp_path.glob("out/cells/*.json")):
                sizes.add(sum(file.stat().st_size for file in files))
            time.sleep(0.1)
    assert running.returncode == 0
    assert len(sizes) > 1, "it grew while the cells ran"
    assert len(list(tmp_path.glob("tb/*/*/autoflip.digest"))) == 1
    assert "0 runs written, 1 already there" in program(*command).stdout
