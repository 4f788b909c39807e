"""``sweep --shard`` and ``merge`` as commands: what they say, and what they refuse."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoflip_secure.cli import app

SCENARIO = """
name: parts
clients: 4
cohort: 2
training: {epochs: 1, batch_size: 64}
data: {kind: digits, train_samples: 100, test_samples: 30}
model: {kind: mlp, hidden: [4]}
seeds: [1, 2]
sweep: {product: {algorithm: [fedavg, median], rounds: [1, 2]}}
"""


def called(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def test_parts_become_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parts.yaml").write_text(SCENARIO)
    for number in (1, 2, 3):
        said = called("sweep", "parts.yaml", "--shard", f"{number}/3", "--out", f"part-{number}", "--workers", "1")
        none = ", of which it has none" if number == 3 else ""
        assert f"Part {number}/3 of 2 blocks{none}; when all are done: autoflip-secure merge DIR… --into DIR" in said
        assert not Path(f"part-{number}/report.html").exists()
    said = called("merge", "part-1", "part-3", "--into", "all", "--no-report")
    assert "4 of 8 cells: 4 new" in said
    assert "4 missing: autoflip-secure sweep all/scenario.yaml --out all" in said
    answer = json.loads(called("merge", "part-1", "part-2", "--into", "all", "--json"))
    assert answer == {"folder": "all", "cells": 8, "new": 4, "missing": 0, "report": "all/report.html"}
    assert "Accuracy" in Path("all/report.html").read_text(encoding="utf-8")


def test_bad_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parts.yaml").write_text(SCENARIO)
    assert "parts have folders of their own; give --out DIR too" in called(
        "sweep", "parts.yaml", "--shard", "1/2", code=2
    )
    said = called("sweep", "parts.yaml", "--shard", "5/2", "--out", "x", code=2)
    assert "--shard 5/2: should be K/N, as in 3/16" in said
    assert "no such folder" in called("merge", "nowhere", "--into", "all", code=2)
    assert not Path("all").exists()
    assert not Path("x").exists()
