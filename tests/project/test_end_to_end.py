"""Whole sweeps through the front door: real MNIST by writer, a user's own data and model, and a golden record."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.upgrade import upgraded
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import run_block

GOLDEN = Path(__file__).parents[1] / "golden" / "record.json"


def run(folder: Path, text: str) -> list[RunRecord]:
    path = folder / "scenario.yaml"
    path.write_text(textwrap.dedent(text))
    return [record for block in plan(load(path)).blocks for record in run_block(block)]


def by_algorithm(records: list[RunRecord]) -> dict[str, RunRecord]:
    return {record.algorithm: record for record in records}


def test_real_mnist_by_writer_learns_and_noise_hurts_who_trusts_everybody(shared_data: Path, tmp_path: Path) -> None:
    records = run(
        tmp_path,
        f"""
        name: mnist-by-writer
        data:
          kind: mnist
          root: {shared_data}
          groups: {shared_data / "QMNIST" / "mnist_writers.npz"}
          train_samples: 3000
          test_samples: 1000
        partition: by_group
        model: {{kind: mlp, hidden: [32]}}
        clients: 15
        cohort: 5
        rounds: 8
        training: {{epochs: 2}}
        exploration: {{epochs: 2}}
        seeds: [10]
        sweep:
          product:
            attack: [none, {{kind: gaussian_noise, sigma: 1.0, scope: 0.2}}]
            algorithm: [fedavg, autoflip, autoflip_plus]
        """,
    )
    clean = by_algorithm([r for r in records if not r.malicious_clients])
    noisy = by_algorithm([r for r in records if r.malicious_clients])
    assert min(r.final_accuracy for r in clean.values()) > 0.75
    assert noisy["fedavg"].final_accuracy < clean["fedavg"].final_accuracy - 0.2
    assert noisy["autoflip"].final_accuracy > noisy["fedavg"].final_accuracy + 0.2
    assert noisy["autoflip_plus"].final_accuracy > noisy["fedavg"].final_accuracy + 0.2
    assert sum(clean["fedavg"].client_samples) == 3000


@pytest.mark.slow
def test_a_users_own_arrays_and_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 12)).astype("float32") * 2
    labels = rng.integers(0, 3, 400)
    rows = centres[labels] + rng.normal(size=(400, 12)).astype("float32")
    arrays = {"x_train": rows[:300], "y_train": labels[:300], "x_test": rows[300:], "y_test": labels[300:]}
    np.savez(tmp_path / "mine.npz", **arrays)
    (tmp_path / "end_to_end_models.py").write_text(
        textwrap.dedent(
            """
            from torch import nn


            class Residual(nn.Module):
                def __init__(self, inputs, classes):
                    super().__init__()
                    self.first, self.last = nn.Linear(inputs, 16), nn.Linear(16, classes)
                    self.middle, self.norm = nn.Linear(16, 16), nn.BatchNorm1d(16)

                def forward(self, x):
                    h = self.first(x.flatten(1)).relu()
                    return self.last(h + self.norm(self.middle(h)).relu())


            def residual(input_shape, num_classes):
                return Residual(input_shape[0], num_classes)
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    records = run(
        tmp_path,
        f"""
        name: mine
        data: {{kind: npz, path: {tmp_path / "mine.npz"}}}
        model: end_to_end_models:residual
        clients: 6
        cohort: 3
        rounds: 5
        exploration: {{epochs: 1}}
        sweep: {{product: {{algorithm: [fedavg, autoflip, radial_only]}}}}
        """,
    )
    for record in records:
        assert record.final_accuracy > 0.8
        assert record.trainer.kind == "sequential"  # running statistics cannot be stacked
        assert "norm" in record.trainer.reason.lower()
        assert record.costs.compaction == "ok"  # a residual connection, whose units are one
        assert record.costs.model_flops.compacted <= record.costs.model_flops.dense
    pruned = by_algorithm(records)["autoflip"]
    assert pruned.rounds[-1].density < 0.9


def golden_records(folder: Path) -> list[dict[str, Any]]:
    records = run(
        folder,
        """
        name: golden
        model: {kind: mlp, hidden: [16, 12]}
        clients: 8
        cohort: 4
        rounds: 4
        training: {epochs: 1}
        exploration: {epochs: 1}
        seeds: [10]
        sweep:
          product:
            partition: [{kind: pathological, classes_per_client: 4}]
            attack: [{kind: gaussian_noise, sigma: 0.5, scope: 0.25}, {kind: label_flip, share: 0.5, scope: 0.25}]
            algorithm: [fedavg, autoflip, autoflip_plus]
        """,
    )
    # these sit on bin edges and thresholds, or count some forty samples, where rounding on another processor may show
    sharp = ("guidance", "digests", "mask", "classes")
    return [{k: v for k, v in record.numbers().items() if k not in sharp} for record in records]


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two documents differ by more than rounding on another processor may."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k, "absent"), new.get(k, "absent"), f"{path}.{k}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, pair in enumerate(zip(old, new, strict=True)) for d in differences(*pair, f"{path}[{i}]")]
    if isinstance(old, float) and isinstance(new, float):
        return [] if new == pytest.approx(old, rel=2e-2, abs=2e-2) else [f"{path}: {old} -> {new}"]
    if isinstance(old, int) and isinstance(new, int) and old > 1000:  # bytes, operations: one weight more or less
        return [] if new == pytest.approx(old, rel=2e-2) else [f"{path}: {old} -> {new}"]
    return [] if old == new else [f"{path}: {old!r} -> {new!r}"]


def test_golden_record(tmp_path: Path) -> None:
    """A change of numbers must be meant: delete tests/golden/record.json and run this test again to accept it."""
    new = json.loads(json.dumps(golden_records(tmp_path)))
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(new, indent=1) + "\n")
        pytest.fail(f"{GOLDEN.name} was missing and has been written; read it, then commit it")
    old = [upgraded(record) for record in json.loads(GOLDEN.read_text())]  # written by schema 1
    found = differences(old, new)
    assert not found, "\n".join(found[:20])
    old[0]["rounds"][0]["participants"][0] += 1
    old[1]["final_accuracy"] += 0.1
    assert len(differences(old, new)) == 2  # the comparison can fail
