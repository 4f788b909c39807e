"""The idx format: where files are found, and files damaged on purpose."""

import gzip
import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from small_datasets import idx, official, write_idx_folder

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.datasets import FashionMnist, Mnist


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("root", ["data", "data/MNIST", "data/MNIST/raw"])
def test_idx_is_read_from_each_root_packed_or_not(tmp_path, monkeypatch, packed, root):
    arrays = write_idx_folder(tmp_path / "data" / "MNIST" / "raw", packed=packed)
    official(monkeypatch, tmp_path / "data")
    data = Mnist(root=tmp_path / root).load()
    expected = (arrays["train-images-idx3-ubyte"] / 255 - 0.1307) / 0.3081
    assert np.allclose(data.x_train[:, 0].numpy(), expected, atol=1e-6)
    assert data.y_test.tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()


@pytest.mark.parametrize("root", ["MNIST", "MNIST/raw"])
def test_another_data_sets_folder_is_not_taken_for_ours(tmp_path, root):
    write_idx_folder(tmp_path / "MNIST" / "raw")
    with pytest.raises(DataError, match="fashion_mnist"):
        FashionMnist(root=tmp_path / root).load()


def test_root_falls_back_to_the_environment_then_to_data(tmp_path, monkeypatch):
    write_idx_folder(tmp_path / "elsewhere" / "MNIST" / "raw", n=30, packed=False)
    write_idx_folder(tmp_path / "data" / "MNIST" / "raw", n=50, packed=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOFLIP_DATA", raising=False)
    assert len(Mnist().load().y_train) == 50
    monkeypatch.setenv("AUTOFLIP_DATA", str(tmp_path / "elsewhere"))
    assert len(Mnist().load().y_train) == 30


IMAGES = "train-images-idx3-ubyte"
SIZE = 16 + 40 * 784


@pytest.mark.parametrize(
    ("packed", "damage", "message"),
    [
        (False, lambda b: b[:-100], rf"found {SIZE - 100} bytes that are not a whole idx file"),
        (False, lambda b: b + b"x", rf"found {SIZE + 1} bytes that are not a whole"),
        (False, lambda b: b[:7], r"found 7 bytes that"),
        (False, lambda b: b"", r"found 0 bytes that"),
        (
            False,
            lambda b: b[:2] + b"\x0d" + b[3:],
            r"not a whole idx file \(ValueError: no unsigned bytes in 3 dimensions; shape .*\)",
        ),
        (False, lambda b: b"<html>" + b, r"is a web page, not an idx file; download the file itself"),
        (False, lambda b: b[:4] + b"\xff" * 4 + b[8:], rf"found {SIZE} bytes that"),
        (
            True,
            lambda b: b[:-2000],
            r"is not the official file: \d+ bytes with MD5 [0-9a-f]{32}, expected [0-9a-f]{32}",
        ),
        (True, lambda b: b[:-6] + bytes([b[-6] ^ 1]) + b[-5:], "is not the official file"),
        (True, gzip.decompress, "is not packed, though it is called .gz"),
        (True, lambda b: b"no gzip", "is plain text, not an idx file"),
    ],
)
def test_damaged_idx_is_refused_with_its_name_and_the_way_out(tmp_path, monkeypatch, packed, damage, message):
    write_idx_folder(tmp_path / "MNIST" / "raw", packed=packed)
    official(monkeypatch, tmp_path)
    path = tmp_path / "MNIST" / "raw" / (IMAGES + ".gz" * packed)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        Mnist(root=tmp_path).load()
    assert str(path) in str(caught.value)
    assert re.search("download: true|download the file itself|rename it", str(caught.value))


@settings(max_examples=sized(8, 40), deadline=None)
@given(st.integers(0, SIZE - 1))
def test_an_idx_file_cut_anywhere_is_refused(tmp_path_factory, length):
    folder = tmp_path_factory.mktemp("cut")
    write_idx_folder(folder / "MNIST" / "raw", packed=False)
    os.truncate(folder / "MNIST" / "raw" / IMAGES, length)
    with pytest.raises(DataError, match=f"found {length} bytes"):
        Mnist(root=folder).load()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.zeros(39, np.uint8), "holds 39 labels, but .* holds 40 images"),
        ("train-labels-idx1-ubyte", np.full(40, 10, np.uint8), "holds label 10, expected 0 to 9"),
        (IMAGES, np.zeros((40, 32, 32), np.uint8), "40 images of 32 x 32, expected some of 28 x 28"),
        (IMAGES, np.zeros((0, 28, 28), np.uint8), "found 16 bytes that are not a whole idx file"),
    ],
)
def test_idx_files_that_do_not_fit_together_are_refused(tmp_path, name, array, message):
    write_idx_folder(tmp_path / "MNIST" / "raw", packed=False)
    (tmp_path / "MNIST" / "raw" / name).write_bytes(idx(array))
    with pytest.raises(DataError, match=message):
        Mnist(root=tmp_path).load()


def test_writers_must_fit_the_samples(tmp_path):
    write_idx_folder(tmp_path / "MNIST" / "raw", packed=False)
    np.savez(tmp_path / "writers.npz", train_writer=np.arange(40) // 4)
    assert Mnist(root=tmp_path, groups="writers.npz").load().groups.tolist() == [i // 4 for i in range(40)]
    np.savez(tmp_path / "short.npz", train_writer=np.arange(39))
    with pytest.raises(DataError, match=r"train_writer is int64 \(39,\), expected one whole number for each of the 40"):
        Mnist(root=tmp_path, groups="short.npz").load()
    with pytest.raises(DataError, match=r"absent\.npz: no such file"):
        Mnist(root=tmp_path, groups="absent.npz").load()
