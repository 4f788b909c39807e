"""Files that are not what their names say: every reader names what they are, and what was meant by a missing name."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_datasets import write_idx_folder, write_npz

from autoflip_secure.errors import AutoflipError, DataError, InputError, StoreError
from autoflip_secure.reports.gate.baseline import read_baseline
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.data.datasets import Cifar10, Mnist, Npz
from autoflip_secure.scenarios.models.custom import call_factory
from autoflip_secure.scenarios.store.manifest import read_manifest
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.results import read_results

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123456\n"
PAGE = b"<!DOCTYPE html><html><title>404 Not Found</title></html>"
IMAGES = "train-images-idx3-ubyte"


def refusal(read, *arguments) -> str:
    with pytest.raises(AutoflipError) as caught:
        read(*arguments)
    told = str(caught.value)
    assert not any(word in told for word in ("allow_pickle", "unsafe", "pickle.load", "weights_only")), told
    return told


READERS = {
    "an .npz": ("a.npz", lambda path: Npz(path=path).load()),
    "a scenario": ("a.yaml", Document.read),
    "a baseline": ("baseline.json", read_baseline),
    "a cell": ("abc.json", read_record),
    "a manifest": ("manifest.json", lambda path: read_manifest(path.parent)),
}


@pytest.mark.parametrize("wanted", READERS)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (POINTER, "`git lfs pull`"),
        (PAGE, "is a web page, not {}"),
        (gzip.compress(b"{}"), "is packed with gzip, not {}"),
    ],
    ids=["pointer", "page", "gzip"],
)
def test_every_reader_says_what_it_was_given(wanted: str, content: bytes, expected: str, tmp_path: Path) -> None:
    name, read = READERS[wanted]
    (tmp_path / name).write_bytes(content)
    told = refusal(read, tmp_path / name)
    assert told.startswith(f"{tmp_path / name}: is ")
    assert expected.format(wanted) in told


@pytest.mark.parametrize(
    ("content", "expected"), [(POINTER, "git lfs pull"), (PAGE, "is a web page, not a CIFAR batch")]
)
def test_cifar_batches(content: bytes, expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in Cifar10.files:
        (folder / name).write_bytes(content)
    assert expected in refusal(Cifar10(root=tmp_path).load)


def test_an_archive_that_was_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    told = refusal(Cifar10(root=tmp_path).load)
    assert f"they are packed in {tmp_path / 'cifar-10-python.tar.gz'}: unpack it there with `tar -xzf`" in told


@pytest.mark.parametrize(
    ("packed", "change", "expected"),
    [
        (True, gzip.decompress, f"is not packed, though it is called .gz; rename it to {IMAGES}"),
        (False, gzip.compress, f"is packed with gzip; rename it to {IMAGES}.gz, or unpack it with gunzip"),
        (True, lambda _: POINTER, "git lfs pull"),
        (True, lambda _: gzip.compress(PAGE), "holds what is a web page, not an idx file; download the file itself"),
        (False, lambda _: b"a,b\n1,2\n", "is plain text, not an idx file"),
    ],
)
def test_idx_files(packed: bool, change, expected: str, tmp_path: Path) -> None:
    write_idx_folder(tmp_path / "MNIST" / "raw", packed=packed)
    path = tmp_path / "MNIST" / "raw" / (IMAGES + ".gz" * packed)
    path.write_bytes(change(path.read_bytes()))
    told = refusal(Mnist(root=tmp_path).load)
    assert told.startswith(f"{path}: ")
    assert expected in told


def test_idx_files_under_another_spelling(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    write_idx_folder(folder, packed=False)
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("-idx", ".idx"))
    told = refusal(Mnist(root=tmp_path).load)
    assert f"is {IMAGES.replace('-idx', '.idx')} there what should be called {IMAGES}?" in told


def test_what_an_npz_may_be_instead(tmp_path: Path) -> None:
    torch.save({"x_train": torch.zeros(3)}, tmp_path / "weights.npz")
    assert "was written by torch.save, not by numpy" in refusal(Npz(path=tmp_path / "weights.npz").load)
    np.save(tmp_path / "one.npy", np.zeros(3))
    told = refusal(Npz(path=tmp_path / "one.npy").load)
    assert "is a single numpy array (.npy), not an .npz; save all arrays with numpy.savez" in told
    write_npz(tmp_path / "mine.npz", class_names=np.array(["a", "b", "c"], dtype=object))
    told = refusal(Npz(path=tmp_path / "mine.npz").load)
    assert "class_names is an array of Python objects" in told
    records = np.zeros(12, dtype=[("label", object)])
    write_npz(tmp_path / "records.npz", y_train=records)
    assert "y_train is an array of Python objects" in refusal(Npz(path=tmp_path / "records.npz").load)


def test_labels_from_one(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "mine.npz", y_train=np.arange(12) % 3 + 1, y_test=np.arange(6) % 3 + 1)
    with pytest.raises(DataError, match=r"run from 1 to 3, but y_train has no .* class 0; .*subtract 1 from each"):
        Npz(path=path).load()


def test_a_merge_that_was_not_finished(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{\n<<<<<<< HEAD\n "reason": "a"\n=======\n "reason": "b"\n>>>>>>> x\n}\n')
    with pytest.raises(InputError, match="contains the conflict markers of an unfinished merge; restore it"):
        read_baseline(tmp_path / "b.json")


def test_names_that_are_nearly_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "mine.npz")
    (tmp_path / "noise.yaml").write_text("algorithm: fedavg\n")
    (tmp_path / "baseline.json").write_text("{}")
    (tmp_path / "runs" / "noise" / "cells").mkdir(parents=True)
    (tmp_path / "runs" / "noise" / "manifest.json").write_text(json.dumps({}))
    there = ", but there is "
    assert f"{there}{tmp_path / 'mine.npz'}" in refusal(Npz(path="Mine.npz").load)
    assert f"{there}{tmp_path / 'noise.yaml'}" in refusal(load, "nois.yaml")
    assert f"{there}{tmp_path / 'noise.yaml'}" in refusal(load, "noise")
    assert f"{there}{tmp_path / 'baseline.json'}" in refusal(read_baseline, Path("basline.json"))
    assert f"{there}{tmp_path / 'runs' / 'noise'}" in refusal(read_results, Path("runs/nois"))
    for folder in ("runs/noise/cells", "runs"):
        with pytest.raises(StoreError, match=r"is not a results folder .*, but (there is )?\S*runs/noise"):
            read_manifest(Path(folder))


def test_models_that_are_nearly_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "near_nets.py").write_text(
        "def small():\n    raise ValueError('Object arrays cannot be loaded when allow_pickle=False')\n"
    )
    assert "did you mean near_nets? " in refusal(call_factory, "near_net:small", {}, {})
    assert "name the module, not its file: near_nets:…" in refusal(call_factory, "near_nets.py:small", {}, {})
    assert "did you mean 'small'? it has small" in refusal(call_factory, "near_nets:smal", {}, {})
    assert "failed with ValueError: it holds pickled objects" in refusal(call_factory, "near_nets:small", {}, {})
