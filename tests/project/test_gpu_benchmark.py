"""The script that measures a GPU, in its small form: one JSON, and what could not be measured is said in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_small_form_writes_one_json_that_says_what_was_not_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--small", "--out", "gpu.json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert (found["small"], found["device"]) == (True, "cuda" if torch.cuda.is_available() else "cpu")
    assert [row["met"] for row in found["goals"]] == [None] * 4
    assert all(row["measured"] > 0 for row in found["goals"])
    assert set(found["sweeps"]) == {"plain", "dp-sgd", "robust"}
    assert all(0 < one["training_share"] < 1 for one in found["sweeps"].values())
    took = found["memory"]["above_one_cell_mib"]
    assert took / 2 < found["memory"]["estimated_above_one_cell_mib"] < 4 * took
    assert not [name for name, part in found.items() if isinstance(part, dict) and "failed" in part]
    if found["device"] == "cpu":
        assert found["not_measured"][0].startswith("anything on a GPU: torch finds none here")
