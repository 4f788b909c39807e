"""CIFAR behind torchvision's checksums: the official files are read, and nothing else is ever unpickled."""

import os
import pickle

import numpy as np
import pytest
from small_datasets import Evil, official, write_cifar10

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.datasets import Cifar10


@pytest.mark.parametrize("place", ["", "cifar-10-batches-py"])
def test_pixels_labels_and_names_are_those_of_the_batches(tmp_path, monkeypatch, place):
    batches = write_cifar10(tmp_path)
    official(monkeypatch, tmp_path)
    pixels = np.concatenate([batches[f"data_batch_{i}"]["data"] for i in range(1, 6)]).reshape(-1, 3, 32, 32) / 255
    mean, std = np.array(Cifar10.mean)[:, None, None], np.array(Cifar10.std)[:, None, None]
    data = Cifar10(root=tmp_path / place).load()
    assert np.allclose(data.x_train.numpy(), (pixels - mean) / std, atol=1e-5)
    assert data.y_test.tolist() == batches["test_batch"]["labels"]
    assert data.class_names[3] == "class 3"


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_pickle_that_calls_code_is_refused_and_runs_nothing(tmp_path, monkeypatch, name):
    write_cifar10(tmp_path)
    official(monkeypatch, tmp_path)
    batch, trace = tmp_path / "cifar-10-batches-py" / name, tmp_path / "trace"
    batch.write_bytes(pickle.dumps({"data": Evil((os.mkdir, (str(trace),)))}))
    with pytest.raises(DataError, match=rf"{name}: is not the official file: \d+ bytes with MD5"):
        Cifar10(root=tmp_path).load()
    assert not trace.exists()
    pickle.loads(batch.read_bytes())
    assert trace.exists()  # it would have run: the test above means something


def test_a_file_that_changes_after_its_sum_was_taken_is_not_what_is_read(tmp_path, monkeypatch):
    write_cifar10(tmp_path)
    official(monkeypatch, tmp_path)
    batch, trace = tmp_path / "cifar-10-batches-py" / "data_batch_2", tmp_path / "trace"
    real, seen = pickle.load, []

    def swapped(file, **options):
        batch.write_bytes(pickle.dumps(Evil((os.mkdir, (str(trace),)))))
        seen.append(file.name)
        return real(file, **options)

    monkeypatch.setattr(pickle, "load", swapped)
    Cifar10(root=tmp_path).load()
    assert seen
    assert not trace.exists()


def test_files_of_your_own_in_the_layout_of_cifar_are_told_where_to_go(tmp_path):
    write_cifar10(tmp_path)
    with pytest.raises(DataError, match=r"data of your own go into \{kind: npz\}"):
        Cifar10(root=tmp_path).load()
