"""A sweep for the command `export`, its records, and what other programs load of it."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported_models
import pytest
import torch
from click.testing import Result
from torch import Tensor, nn
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.store.reading import read_record

SCENARIO = """
name: kept
clients: 5
cohort: 3
rounds: 4
training: {epochs: 2, batch_size: 32, lr: 0.1}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 300, test_samples: 60}
seeds: [3]
sweep:
  - product: {algorithm: [autoflip], model: ["exported_models:Residual", "exported_models:Branching"]}
  - product: {algorithm: [autoflip_plus], model: ["exported_models:Convolutions"]}
  - product: {algorithm: [autoflip], model: ["exported_models:Convolutions"], privacy: [PRIVACY]}
"""
PRIVACY = "{kind: sample_level, clip: 1.0, noise_multiplier: 1.0, replace_unsupported_layers: true}"
needs_exporter = pytest.mark.skipif(
    "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters, reason="torch is too old to export"
)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def record_of(run: Path, name: str, privacy: str = "none") -> RunRecord:
    records = [read_record(path) for path in (run / "cells").glob("*.json")]
    (found,) = [
        r for r in records if r.config["model"]["factory"].endswith(name) and r.config["privacy"]["kind"] == privacy
    ]
    return found


def exported(run: Path, name: str, to: str, *more: str, out: Path) -> dict[str, Any]:
    done = invoke(
        "export", run, record_of(run, name).cell[:8], "--to", to, *more, "--out", out, "--overwrite", "--json"
    )
    assert done.exit_code == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["file"] == str(out)
    return answer


def held_out(run: Path) -> tuple[Tensor, Tensor]:
    data = load(run / "scenario.yaml").cells[0].settings.data.load()
    return data.x_test, data.y_test


def accuracy(net: Callable[[Tensor], Tensor], run: Path) -> float:
    x, y = held_out(run)
    with torch.no_grad():
        return int((net(x).argmax(1) == y).sum()) / len(y)


def loaded(run: Path, name: str, state: dict[str, Tensor]) -> nn.Module:
    net: nn.Module = getattr(exported_models, name)(10).eval()
    net.load_state_dict(state)
    return net
