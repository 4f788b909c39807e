"""``export`` as a user meets it: files that other programs load, accuracies, refusals."""

import errno
import hashlib
import importlib.util
import inspect
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported_models
import onnx
import onnxruntime
import pytest
import torch
from click.testing import Result
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.models.chains import Cnn
from autoflip_secure.scenarios.store.store import read_record

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with models; never change it."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "kept.yaml").write_text(SCENARIO.replace("PRIVACY", PRIVACY))
    done = invoke("sweep", folder / "kept.yaml", "--out", folder / "run", "--keep-models", "--no-report", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["models"] == str(folder / "run" / "models")
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


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


@pytest.mark.parametrize("name", ["Convolutions", "Residual", "Branching"])
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


@pytest.mark.parametrize(
    ("name", "which", "why"),
    [
        ("Residual", "final", "flatten is read by first, add"),
        ("Convolutions", "initial", "the initial model is not pruned"),
    ],
)
def test_what_cannot_be_compacted_is_refused_with_the_reason(
    name: str, which: str, why: str, finished: Path, tmp_path: Path
) -> None:
    key = record_of(finished, name).cell
    done = invoke("export", finished, key, "--which", which, "--compact", "--out", tmp_path / "a.safetensors")
    assert done.exit_code == 2
    assert "--compact: " in done.stderr
    assert why in done.stderr
    assert "leave --compact out to export the whole model" in done.stderr
    assert not list(tmp_path.iterdir())


@needs_exporter
def test_what_torch_cannot_export_to_onnx_is_refused_in_a_sentence(finished: Path, tmp_path: Path) -> None:
    key = record_of(finished, "Branching").cell
    done = invoke("export", finished, key, "--to", "onnx", "--out", tmp_path / "a.onnx")
    assert done.exit_code == 2
    assert "torch cannot export it to ONNX" in done.stderr
    assert "--to torch" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_library_is_named_with_its_extra(
    missing: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == missing else real(name, *a))
    key = record_of(finished, "Convolutions").cell
    done = invoke("export", finished, key, "--to", "onnx", "--out", tmp_path / "a.onnx")
    assert done.exit_code == 2
    assert f"needs {missing}, which is not installed; install the extra: pip install 'autoflip-secure[onnx]'" in (
        done.stderr
    )


@needs_exporter
def test_without_onnxruntime_the_file_is_said_to_be_unchecked(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxruntime" else real(name, *a))
    answer = exported(finished, "Convolutions", "onnx", out=tmp_path / "a.onnx")
    assert "not compared" in answer["checked"]
    assert "pip install 'autoflip-secure[onnx]'" in answer["checked"]


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


def test_cells_are_named_by_key_or_by_what_tells_them_apart(finished: Path) -> None:
    several = invoke("export", finished)
    assert several.exit_code == 2
    assert "4 cells match" in several.stderr
    assert all(path.stem in several.stderr for path in (finished / "cells").glob("*.json"))
    for wrong, said in (("seed=4", "no finished cell matches seed=4"), ("zz", "no finished cell matches zz"),
                        ("sede=3", "did you mean"), ("=3", "no cell has a key")):  # fmt: skip
        done = invoke("export", finished, wrong)
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert not (finished / "exports").exists()


def test_by_default_the_file_lies_in_the_results_folder(run: Path) -> None:
    record = record_of(run, "Residual")
    assert invoke("export", run, record.cell).exit_code == 0
    (file,) = (run / "exports").iterdir()
    assert file.name == f"{record.cell[:12]}-final.safetensors"


@pytest.mark.parametrize("to", ["safetensors", "torch"])
def test_the_same_again_is_no_conflict_and_another_file_is_not_replaced_unasked(
    to: str, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a"
    asked = ("export", finished, record_of(finished, "Residual").cell, "--to", to, "--out", out)
    assert invoke(*asked).exit_code == 0
    content = out.read_bytes()
    again = invoke(*asked)
    assert again.exit_code == 0
    assert "already there" in again.stdout
    other = invoke(*asked, "--which", "initial")
    assert other.exit_code == 2
    assert f"{out}: already exists, with other content; add --overwrite" in other.stderr
    assert out.read_bytes() == content
    assert invoke(*asked, "--which", "initial", "--overwrite").exit_code == 0
    assert out.read_bytes() != content


def test_a_full_disk_is_said_and_leaves_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    done = invoke("export", finished, record_of(finished, "Residual").cell, "--out", tmp_path / "a.safetensors")
    assert done.exit_code == 2
    assert "no space left on the disk" in done.stderr
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_refused_before_anything_is_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoflip_secure.scenarios.running.exporting.reload_model", None)
    key = record_of(run, "Residual").cell
    kept = run / "models" / f"{key}.safetensors"
    before = kept.read_bytes()
    for out, said in ((tmp_path, "is a folder"), (kept, "among the files of the sweep"),
                      (run / "manifest.json", "among the files of the sweep"),
                      (run / "exports" / ".." / "log.txt", "among the files of the sweep"),
                      (tmp_path / "no" / "a.pt", "is not a folder")):  # fmt: skip
        done = invoke("export", run, key, "--out", out, "--overwrite")
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert kept.read_bytes() == before


def test_without_models_the_way_to_them_is_said(run: Path) -> None:
    key = record_of(run, "Residual").cell
    (run / "models" / f"{key}.safetensors").unlink()
    done = invoke("export", run, key)
    assert done.exit_code == 2
    assert f"has no models; run `autoflip-secure sweep {run}/scenario.yaml --out {run} --keep-models`" in done.stderr


def test_another_source_is_refused_when_it_gives_another_accuracy(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of(run, "Residual")

    class Other(exported_models.Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).roll(1, dims=1)

    monkeypatch.setattr(exported_models, "Residual", Other)
    done = invoke("export", run, record.cell)
    assert done.exit_code == 2
    assert f"and {record.final_accuracy:.4f} in the record, although" in done.stderr
    source = Path(sys.modules["exported_models"].__file__ or "")
    monkeypatch.setattr(
        "autoflip_secure.scenarios.store.fingerprints.source_file", lambda *_: source.with_name("sizes.py")
    )
    monkeypatch.setattr("autoflip_secure.scenarios.store.fingerprints.sources", lambda *_: [])
    monkeypatch.setattr("autoflip_secure.scenarios.store.fingerprints._imported", {})  # as in a process of its own
    done = invoke("export", run, record.cell)
    assert done.exit_code == 2
    assert "because source of model.factory exported_models:Residual and what it imports is not what" in done.stderr


def test_another_shape_is_refused_with_the_tensors(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(exported_models.Branching):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.more = nn.Linear(3, 3)

    key = record_of(run, "Branching").cell
    monkeypatch.setattr(exported_models, "Branching", Wider)
    done = invoke("export", run, key)
    assert done.exit_code == 2
    assert "more.weight" in done.stderr


def test_other_software_with_another_accuracy_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of(run, "Residual")
    monkeypatch.setattr(
        "autoflip_secure.scenarios.running.exporting.versions", lambda: {**record.versions, "torch": "9.9"}
    )
    monkeypatch.setattr(
        "autoflip_secure.scenarios.running.exporting.evaluate", lambda *_: (torch.tensor([0.125]), torch.tensor([1.0]))
    )
    done = invoke("export", run, record.cell)
    assert done.exit_code == 0, done.stderr
    assert "9.9 here" in done.stderr
    assert "equal to the record's" not in done.stdout
