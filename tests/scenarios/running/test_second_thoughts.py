"""A corrected mistake is not held against the user, and changed data is not passed off as the old."""

from __future__ import annotations

import subprocess
from pathlib import Path

import forked
import numpy as np
import pytest

SMALL = """
name: small
clients: 4
cohort: 2
rounds: 1
training: {epochs: 1}
seeds: [10]
model: {kind: mlp, hidden: [8]}
"""


def sweep(folder: Path, text: str, *more: str, scenario: str = SMALL) -> subprocess.CompletedProcess[str]:
    (folder / "s.yaml").write_text(scenario + text)
    return forked.run("sweep", "s.yaml", "--out", "out", "--no-report", *more, cwd=folder)


@pytest.mark.slow
def test_a_mistake_found_before_training_does_not_claim_the_folder(tmp_path: Path) -> None:
    wrong = sweep(tmp_path, "partition: {kind: pathological, classes_per_client: 11}")
    assert wrong.returncode == 2
    assert "classes_per_client" in wrong.stderr
    right = sweep(tmp_path, "partition: {kind: pathological, classes_per_client: 3}")
    assert right.returncode == 0, right.stderr


def test_other_data_under_the_same_name_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def write(shift: float) -> None:
        x, y = rng.normal(size=(80, 6)).astype("float32") + shift, np.arange(80) % 2
        np.savez(tmp_path / "mine.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])

    write(0)
    text = "data: {kind: npz, path: mine.npz}"
    assert sweep(tmp_path, text).returncode == 0
    assert sweep(tmp_path, text).returncode == 0
    write(1)
    changed = sweep(tmp_path, text)
    assert changed.returncode == 2
    assert "--out" in changed.stderr


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    """What the model's module imports from beside it counts as the model."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom width import WIDTH\n\ndef make(num_classes, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_classes))\n"
    )
    (tmp_path / "width.py").write_text("WIDTH = 8\n")
    text = "model: 'net:make'"
    small = SMALL.replace("model: {kind: mlp, hidden: [8]}\n", "")
    assert sweep(tmp_path, text, scenario=small).returncode == 0
    (tmp_path / "beside.py").write_text("WIDTH = 9\n")
    assert sweep(tmp_path, text, scenario=small).returncode == 0
    (tmp_path / "width.py").write_text("WIDTH = 9\n")
    changed = sweep(tmp_path, text, scenario=small)
    assert changed.returncode == 2
    assert "source of model.factory net:make" in changed.stderr


def test_a_pair_map_is_written_as_people_write_it(tmp_path: Path) -> None:
    attack = "attack: {kind: label_flip, to: pairs, pairs: {1: 7, 7: 1}}"
    first = sweep(tmp_path, attack)
    assert first.returncode == 0, first.stderr
    again = sweep(tmp_path, attack)
    assert again.returncode == 0, again.stderr
    assert "1 from before" in again.stdout
