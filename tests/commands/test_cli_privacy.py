"""Bad input about privacy, through the command line: one clear sentence with its place, exit code 2, nothing run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.store.reading import read_record

ROOT = Path(__file__).parents[2]
BASE = """\
clients: 6
cohort: 3
rounds: 2
seeds: [31]
data: {kind: digits, train_samples: 600, test_samples: 100}
training: TRAINING
model: MODEL
algorithm: ALGORITHM
privacy: PRIVACY
"""
NETS = """
import torch
from torch import nn

def normalised(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes))

class Centred(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(64, num_classes)
    def forward(self, x):
        return super().forward((x - x.mean(0)).flatten(1))
"""
Sweep = Callable[..., Result]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """``sweep s.yaml --out out`` inside this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    name = f"nets_{abs(hash(tmp_path))}"  # a module is imported once per process
    (tmp_path / f"{name}.py").write_text(NETS)

    def run(privacy: str, *more: str, algorithm: str = "fedavg", model: str = "mlp", training: str = "{}") -> Result:
        text = BASE
        for key, value in (("ALGORITHM", algorithm), ("MODEL", model), ("TRAINING", training), ("PRIVACY", privacy)):
            text = text.replace(key, value)
        (tmp_path / "s.yaml").write_text(text.replace("nets:", f"{name}:"))
        return CliRunner().invoke(app, ["sweep", "s.yaml", "--out", "out", "--no-report", *more])

    return run


def record(folder: Path) -> RunRecord:
    (path,) = (folder / "out" / "cells").glob("*.json")
    return read_record(path)


REFUSED: list[tuple[dict[str, str], int, str]] = [
    (
        {"privacy": "{kind: sample_level, target_epsilon: 0.000001}"}, 9,
        "privacy.target_epsilon = 1e-06 cannot be reached: even with noise_multiplier = 10000 everything released has "
        "epsilon 0.00144 (rdp); raise target_epsilon or delta, or release less (rounds, epochs)",
    ),
    (
        {"privacy": "{kind: client_level, target_epsilon: 0.000001, delta: 1e-9}"}, 9,
        "privacy.target_epsilon = 1e-06 cannot be reached",
    ),
    (
        {"privacy": "{kind: sample_level, delta: 0.02}"}, 9,
        "privacy.delta = 0.02: is not below 1/n = 0.01 of client 0 with 100 samples, so one sample could be published "
        "in full; give less, or leave it out for 0.001",
    ),
    (
        {"privacy": "{kind: client_level, delta: 0.2}"}, 9,
        "privacy.delta = 0.2: is not below 1/clients = 0.166667, so one client's data could be published "
        "in full; give less",
    ),
    ({"privacy": "{kind: sample_level, clip: 0}"}, 9, "privacy.clip = 0: should be greater than 0 (L2 norm"),
    ({"privacy": "{kind: client_level, clip: -1}"}, 9, "privacy.clip = -1: should be greater than 0 (L2 norm"),
    ({"privacy": "{kind: client_level, clip: {start: 0}}"}, 9, "privacy.clip.start = 0: should be greater than 0"),
    (
        {"privacy": "{kind: sample_level, noise_multiplier: 1.0, clip: null}"}, 9,
        "privacy.clip = null: noise has no scale without a clip norm (it is in units of it); give clip: 1.0",
    ),
    (
        {"privacy": "{kind: client_level, noise_multiplier: 1.0, clip: null}"}, 9,
        "privacy.clip = null: noise has no scale without a clip norm (it is in units of it); give clip: 1.0",
    ),
    (
        {"privacy": "{kind: sample_level, noise_multiplier: 1.0, target_epsilon: 3}"}, 9,
        "privacy.noise_multiplier = 1 and target_epsilon = 3 are both given, and one decides the other; keep one",
    ),
    (
        {"privacy": "{kind: client_level, noise_multiplier: 5, clip: {noise_multiplier: 1}}"}, 9,
        "privacy.clip.noise_multiplier = 1 is too small for noise_multiplier = 5",
    ),
    (
        {"privacy": "{kind: client_level, noise_multiplier: 1.0}", "algorithm": "median"}, 9,
        "privacy.kind = client_level: no guarantee: the aggregator weighs updates by what it sees in them",
    ),
    (
        {"privacy": "{kind: client_level, target_epsilon: 4}", "algorithm": "autoflip"}, 9,
        "privacy.kind = client_level: no guarantee: the aggregator weighs updates by what it sees in them",
    ),
    (
        {"privacy": "{kind: sample_level, noise_multiplier: 1.0}", "training": "{batch_size: 101}"}, 6,
        "training.batch_size = 101: client 0 has 100 samples, so its batch rate would be 1.01, over 1; lower "
        "training.batch_size to 100 or less, or have fewer clients",
    ),
    (
        {"privacy": "{kind: sample_level, noise_multiplier: 1.0}", "model": "nets:normalised"}, 9,
        "privacy: the model Sequential has layer '2' (BatchNorm1d), which mixes the samples of a batch; set "
        "privacy.replace_unsupported_layers: true to replace such layers (BatchNorm with GroupNorm), or choose "
        "another model",
    ),
    (
        {"privacy": "{kind: sample_level, noise_multiplier: 1.0}", "model": "nets:Centred"}, 7,
        "privacy: the model Centred gives a sample different scores in different batches, so single samples' gradients "
        "cannot be clipped",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "line", "said"), REFUSED, ids=[said[:40] for _, _, said in REFUSED])
def test_bad_input_is_one_sentence_with_its_place(
    settings: dict[str, str], line: int, said: str, sweep: Sweep, tmp_path: Path
) -> None:
    done = sweep(**settings)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.startswith(f"error: s.yaml:{line}: {said}")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*/*.json"))


def test_an_override_is_blamed_on_the_override(sweep: Sweep) -> None:
    privacy = "{kind: sample_level, noise_multiplier: 1.0}"
    for override in ("training.batch_size=300", "clients=9", "privacy.delta=0.5", "privacy.clip=null"):
        done = sweep(privacy, "--set", override, training="{batch_size: 90}")
        assert done.exit_code == 2, done.output
        assert done.stderr.startswith(f"error: --set {override}: ")


def test_the_fix_for_a_batch_norm_is_applied_when_asked_for(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        "{kind: sample_level, noise_multiplier: 1.0, replace_unsupported_layers: true}", model="nets:normalised"
    )
    assert done.exit_code == 0, done.output
    found = record(tmp_path)
    assert found.privacy is not None
    assert all(guarantee.proven for guarantee in found.privacy.guarantees)


@pytest.mark.parametrize("noise", ["noise_multiplier: 1.0", "target_epsilon: 4.0"])
def test_without_a_proof_it_runs_with_the_mark_when_that_is_allowed(noise: str, sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(f"{{kind: client_level, {noise}, allow_unproven: true}}", algorithm="median")
    assert done.exit_code == 0, done.output
    found = record(tmp_path).privacy
    assert found is not None
    assert not any(guarantee.proven or guarantee.clients for guarantee in found.guarantees)
    assert any(re.search("sensitivity is not the clip norm", guarantee.reason) for guarantee in found.guarantees)
    assert found.epsilon() is None
    (ledger,) = (tmp_path / "out" / "ledger").glob("*.json")
    noises = {
        r["noise_multiplier"]
        for r in json.loads(ledger.read_text())["attempts"][0]["planned"]
        if r["observer"] == "public"
    }
    assert min(noises) > 0.4  # half of the multiplier for replacement; a target is not waved through with next to none
