"""``sweep`` in two stages: what it says of the first, for people and for scripts."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

TEXT = """
name: tuned
clients: 3
cohort: 2
rounds: 1
algorithm: fedavg
training: {epochs: 1, batch_size: 64}
data: {kind: digits, train_samples: 60, test_samples: 20}
model: {kind: mlp, hidden: [4]}
seeds: [11]
tune: {axes: {training.lr: [0.1, 0.2]}, seeds: [1, 2]}
"""


def test_a_tuned_sweep(here: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    first = here("sweep", "s.yaml", "--no-report")
    assert first.exit_code == 0, first.output
    assert "Tuned before: training.lr, 2 values for every algorithm, on 2 seeds of its own (4 cells: " in " ".join(
        first.output.split()
    )
    assert "stage 1 of 2 (tuning): 4 cells" in first.stderr
    assert "stage 2 of 2: 1 cell" in first.stderr
    again = here("sweep", "runs/tuned/scenario.yaml", "--no-report", "--json")
    answer = json.loads(again.stdout)
    assert (answer["cells"], answer["run"]) == (1, 0)
    assert answer["tuning"] == {"folder": str(Path("runs/tuned/tuning")), "cells": 4, "run": 0, "reused": 4}


def test_seeds_of_both_stages_are_refused_with_their_place(here: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    found = here("sweep", "s.yaml", "--set", "seeds=[2, 3]")
    assert found.exit_code == 2
    assert "s.yaml:11: tune.seeds: seed 2 would be chosen on and reported too" in " ".join(found.stderr.split())
    assert not (tmp_path / "runs").exists()
