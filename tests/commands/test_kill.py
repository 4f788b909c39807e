"""kill -9 at random moments of a real sweep: nothing finished is lost, nothing is wrong, nobody is left behind."""

import random
import signal
import subprocess
import time
from pathlib import Path

import forked
import pytest
from processes import PATIENCE, gone

from autoflip_secure.scenarios.store.checkpoints import models_file, read_metadata, trajectory_digest
from autoflip_secure.scenarios.store.reading import read_record

SWEEP = """
name: killed
clients: 10
cohort: 4
rounds: 8
training: {epochs: 2}
exploration: {epochs: 2}
data: {kind: digits, train_samples: 600, test_samples: 100}
model: {kind: mlp, hidden: [24]}
seeds: {first: 0, count: SEEDS}
sweep:
  product:
    partition: [iid, dirichlet]
    algorithm: [fedavg, autoflip, autoflip_plus]
    attack: [none, {kind: gaussian_noise, sigma: 0.5}]
"""
SHORT = SWEEP.replace("rounds: 8", "rounds: 4").replace("epochs: 2", "epochs: 1")


def start(folder: Path, workers: int) -> forked.Process:
    arguments = ["sweep", "killed.yaml", "--out", "out", "--workers", workers, "--no-report", "--keep-models"]
    return forked.start(*arguments, cwd=folder, stdout=subprocess.DEVNULL, session=True)


def finish(folder: Path, workers: int) -> dict[str, dict[str, object]]:
    with start(folder, workers) as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    return {path.stem: read_record(path).numbers() for path in saved(folder)}


def saved(folder: Path) -> list[Path]:
    return list((folder / "out" / "cells").glob("*.json"))


@pytest.mark.parametrize(
    ("workers", "seeds", "kills", "own"),
    [
        pytest.param(2, 2, 1, False, id="short"),
        pytest.param(1, 12, 4, False, id="1", marks=pytest.mark.slow),
        pytest.param(2, 12, 4, False, id="2", marks=pytest.mark.slow),
        pytest.param(2, 2, 1, True, id="own masks", marks=pytest.mark.slow),
    ],
)
def test_killed_again_and_again_a_sweep_ends_with_the_same_records(
    workers: int, seeds: int, kills: int, own: bool, tmp_path: Path
) -> None:
    """``own``: with masks that clients decide on and move, and remember from round to round."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        text = (SHORT if kills < 4 else SWEEP).replace("SEEDS", str(seeds))
        (folder / "killed.yaml").write_text(text.replace("autoflip_plus", "fedspa").replace("autoflip,", "lotteryfl,")
                                            if own else text)  # fmt: skip
    began = time.monotonic()
    expected = finish(whole, 1)
    duration = time.monotonic() - began
    assert len(expected) == 12 * seeds

    moments, kept = random.Random(workers), 0
    for _ in range(kills):
        process = start(broken, workers)
        if kills < 4:  # the short form: never before there is something to lose
            while process.poll() is None and len(saved(broken)) <= kept:
                time.sleep(0.02)
        time.sleep(moments.uniform(0.2, 0.8) * duration if kills == 4 else moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)  # the main process alone: its workers have to notice
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        assert gone(process.pid), "processes are left behind"
        cells = saved(broken)
        assert len(cells) >= kept, "a finished cell is lost"
        for path in cells:
            record = read_record(path)
            assert record.numbers() == expected[path.stem]
            models = read_metadata(models_file(broken / "out", record.cell), record.cell)
            assert models["run"] == trajectory_digest(record), "models are written whole, before their record"
        kept = len(cells)
    assert finish(broken, workers) == expected
    whole_models, models = ((folder / "out" / "models").glob("*") for folder in (whole, broken))
    assert {path.name: path.read_bytes() for path in models} == {path.name: path.read_bytes() for path in whole_models}
