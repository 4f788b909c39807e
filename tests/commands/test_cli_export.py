"""``export`` as a user meets it: files that other programs load, their accuracies, and what they say of privacy."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import exported_models
import onnx
import onnxruntime
import pytest
import torch
from cli_exports import accuracy, exported, held_out, invoke, loaded, needs_exporter, record_of
from safetensors import safe_open
from safetensors.torch import load_file
from sizes import every
from torch import nn

from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.models.chains import Cnn


@pytest.fixture(scope="module")
def finished(kept_sweep: Path) -> Path:
    """A results folder with models; never change it."""
    return kept_sweep


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.parametrize("name", every(3, ["Convolutions", "Residual", "Branching"]))
def test_what_torch_and_safetensors_load_has_the_accuracy_of_the_record(
    name: str, finished: Path, tmp_path: Path
) -> None:
    record = record_of(finished, name)
    best = max(entry.test_accuracy or 0 for entry in record.rounds)
    for which, expected in (("final", record.final_accuracy), ("best", best)):
        answer = exported(finished, name, "torch", "--which", which, out=tmp_path / "a.pt")
        state = torch.load(tmp_path / "a.pt", weights_only=True)
        assert accuracy(loaded(finished, name, state), finished) == expected == answer["test_accuracy"]
        assert vars(state)["_metadata"]["autoflip_secure"]["cell"] == record.cell
        own = vars(getattr(exported_models, name)(10).state_dict())["_metadata"]
        assert own.items() <= vars(state)["_metadata"].items(), "torch's versions of layers stay"
        exported(finished, name, "safetensors", "--which", which, out=tmp_path / "a.safetensors")
        other = load_file(tmp_path / "a.safetensors")
        assert other.keys() == state.keys()
        assert all(torch.equal(other[key], state[key]) for key in state)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        found = json.loads(file.metadata()["autoflip_secure"])
    assert (found["which"], found["cell"], found["input_shape"]) == ("best", record.cell, [1, 8, 8])
    assert found["model"]["factory"] == f"exported_models:{name}"


def test_the_initial_model_is_the_one_the_seed_draws(finished: Path, tmp_path: Path) -> None:
    exported(finished, "Residual", "torch", "--which", "initial", out=tmp_path / "a.pt")
    spec = next(s for s in load(finished / "scenario.yaml").cells if s.key == record_of(finished, "Residual").cell)
    drawn = spec.settings.model.build(held_out(finished)[0][:2], 10, spec.seed).state_dict()
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert all(torch.equal(state[key], drawn[key]) for key in drawn)


@needs_exporter
def test_compacted_onnx_gives_the_outputs_of_the_whole_model(finished: Path, tmp_path: Path) -> None:
    answer = exported(finished, "Convolutions", "onnx", "--compact", out=tmp_path / "a.onnx")
    assert answer["compacted"] is True
    assert list(answer["units"]) == ["first", "second", "last"]
    assert any(left < before for left, before in answer["units"].values())
    assert answer["parameters"] < sum(p.numel() for p in exported_models.Convolutions(10).parameters())
    exported(finished, "Convolutions", "torch", out=tmp_path / "a.pt")
    whole = loaded(finished, "Convolutions", torch.load(tmp_path / "a.pt", weights_only=True))
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    x, y = held_out(finished)
    for rows in (x[:1], x[:7], x):
        (given,) = session.run(None, {"input": rows.numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(given), whole(rows), atol=1e-4)
    assert int((given.argmax(1) == y.numpy()).sum()) / len(y) == record_of(finished, "Convolutions").final_accuracy
    (entry,) = [p for p in onnx.load(tmp_path / "a.onnx").metadata_props if p.key == "autoflip_secure"]
    assert json.loads(entry.value)["units"] == answer["units"]


@needs_exporter
def test_the_code_of_the_documentation_runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for to, name in (("safetensors", "model.safetensors"), ("torch", "model.pt"), ("onnx", "model.onnx")):
        exported(finished, "Convolutions", to, out=Path(name))
    shutil.copy(finished / "models" / f"{record_of(finished, 'Convolutions').cell}.safetensors", "models.safetensors")
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    load_it, masks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    made = "Cnn().make((1, 8, 8), 10)"
    assert made in load_it
    assert isinstance(eval(made, {"Cnn": Cnn}), nn.Module)
    known: dict[str, Any] = {"own": exported_models.Convolutions(10)}
    exec(load_it.replace(made, "own"), known)
    assert known["scores"].shape == (5, 10)
    assert known["about"]["classes"] == 10
    exec(masks, known)
    assert known["kept"]["final/mask/first.weight"].dtype == torch.bool


def test_compacted_weights_are_those_of_the_smaller_model(finished: Path, tmp_path: Path) -> None:
    answer = exported(finished, "Convolutions", "torch", "--compact", out=tmp_path / "small.pt")
    exported(finished, "Convolutions", "torch", out=tmp_path / "a.pt")
    whole = loaded(finished, "Convolutions", torch.load(tmp_path / "a.pt", weights_only=True))
    state = torch.load(tmp_path / "small.pt", weights_only=True)
    counts = [len(state[f"{name}.weight"]) for name in ("first", "second")]
    assert answer["units"] == {"first": [counts[0], 6], "second": [counts[1], 16], "last": [10, 10]}
    small = exported_models.Convolutions(10).eval()
    small.first, small.norm = nn.Conv2d(1, counts[0], 3, padding=1), nn.BatchNorm2d(counts[0]).eval()
    small.second, small.last = nn.Linear(counts[0] * 16, counts[1]), nn.Linear(counts[1], 10)
    small.load_state_dict(state)
    x = held_out(finished)[0]
    with torch.no_grad():
        assert torch.allclose(small(x), whole(x), atol=1e-4)


def test_of_a_private_run_the_file_says_what_is_proven_and_not_the_seed(finished: Path, tmp_path: Path) -> None:
    record = record_of(finished, "Convolutions", "sample_level")
    out = tmp_path / "a.pt"
    done = invoke("export", finished, record.cell, "--to", "torch", "--which", "best", "--out", out)
    assert done.exit_code == 0, done.stderr
    found = vars(torch.load(out, weights_only=True))["_metadata"]["autoflip_secure"]
    assert not {"cell", "seed"} & found.keys()
    assert record.privacy is not None
    for guarantee in record.privacy.guarantees:
        assert guarantee.observer in found["privacy"]
    assert "zero out one sample" in found["privacy"]
    assert "counts the global model of every round" in found["privacy"]
    assert "autoflip-secure budget" in found["privacy"]
    assert found["privacy"] in done.stdout


def test_of_a_private_run_the_file_is_not_named_by_a_digest_of_the_seed(run: Path) -> None:
    record = record_of(run, "Convolutions", "sample_level")
    assert invoke("export", run, record.cell).exit_code == 0
    (file,) = (run / "exports").iterdir()
    assert file.name == f"{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}-final.safetensors"
    assert record.cell[:8].encode() not in file.read_bytes()


def test_of_a_private_run_the_initial_model_is_not_said_to_be_counted(finished: Path, tmp_path: Path) -> None:
    record = record_of(finished, "Convolutions", "sample_level")
    done = invoke("export", finished, record.cell, "--which", "initial", "--out", tmp_path / "a", "--json")
    said = json.loads(done.stdout)["privacy"]
    assert "does not count them" in said
    assert "may find the seed" in said
    assert "costs nothing" not in said
