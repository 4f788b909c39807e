"""What ``export`` refuses or cannot check, where its files lie, and how cells are named."""

import errno
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import exported_models
import pytest
import torch
from cli_exports import exported, invoke, needs_exporter, record_of
from torch import Tensor, nn


@pytest.fixture(scope="module")
def finished(kept_sweep: Path) -> Path:
    """A results folder with models; never change it."""
    return kept_sweep


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


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
        "autoflip_secure.scenarios.running.exporting.versions", lambda *_, **__: {**record.versions, "torch": "9.9"}
    )
    monkeypatch.setattr(
        "autoflip_secure.scenarios.running.exporting.evaluate", lambda *_: (torch.tensor([0.125]), torch.tensor([1.0]))
    )
    done = invoke("export", run, record.cell)
    assert done.exit_code == 0, done.stderr
    assert "9.9 here" in done.stderr
    assert "equal to the record's" not in done.stdout


def test_a_file_has_the_format_that_its_ending_names(finished: Path, tmp_path: Path) -> None:
    """``--out m.pt`` wrote safetensors under that name, which torch could not load."""
    asked = ("export", finished, record_of(finished, "Residual").cell)
    done = invoke(*asked, "--out", tmp_path / "a.pt")
    assert done.exit_code == 0, done.output
    assert torch.load(tmp_path / "a.pt", weights_only=True)
    done = invoke(*asked, "--out", tmp_path / "a.safetensors", "--to", "torch")
    assert done.exit_code == 2
    assert "a.safetensors: ends as a file of format safetensors, and --to is torch; change one" in done.stderr
    assert not (tmp_path / "a.safetensors").exists()
