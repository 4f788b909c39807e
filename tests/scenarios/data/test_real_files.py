"""The real files of the data sets, and downloading them; torchvision is the second reader."""

import functools
import hashlib
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from small_datasets import (
    MNIST_TEST,
    MNIST_TRAIN,
    SHARED,
    listing,
    shared,
    write_idx_folder,
)

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.datasets import (
    FashionMnist,
    Mnist,
)


def test_real_mnist_has_the_known_counts_and_moments_and_writers():
    folder = shared("MNIST")
    shared("QMNIST", "mnist_writers.npz")
    before = listing(folder)
    data = Mnist(root=SHARED, groups="QMNIST/mnist_writers.npz").load()
    assert listing(folder) == before
    assert data.y_train.bincount().tolist() == MNIST_TRAIN
    assert data.y_test.bincount().tolist() == MNIST_TEST
    assert abs(data.x_train.mean()) < 1e-3
    assert abs(data.x_train.std() - 1) < 1e-3
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.groups is not None
    _, sizes = data.groups.unique(return_counts=True)
    assert (len(sizes), int(sizes.min()), int(sizes.max()), int(sizes.median())) == (539, 19, 131, 116)
    part = Mnist(root=SHARED, groups="QMNIST/mnist_writers.npz", train_samples=1000, test_samples=200).load()
    row = (data.x_train == part.x_train[7]).flatten(1).all(1).nonzero().item()
    assert part.groups is not None
    assert (part.groups[7], part.y_train[7]) == (data.groups[row], data.y_train[row])


@pytest.mark.slow
def test_real_fashion_mnist_has_the_known_counts_and_moments():
    shared("FashionMNIST")
    data = FashionMnist(root=SHARED).load()
    assert data.y_train.bincount().tolist() == [6000] * 10
    assert data.y_test.bincount().tolist() == [1000] * 10
    assert abs(data.x_train.mean()) < 1e-3
    assert abs(data.x_train.std() - 1) < 1e-3
    assert data.class_names[int(data.y_train[0])] == "Ankle boot"


def test_real_mnist_truncated(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(shared("MNIST", "raw"), raw)
    os.truncate(raw / "train-images-idx3-ubyte.gz", 5_000_000)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: is not the official file: 5000000 bytes"):
        Mnist(root=tmp_path).load()


@pytest.fixture
def mirror(monkeypatch):
    """``mirror(folder)``: a local web server stands where torchvision's MNIST mirror is, and serves the folder."""
    import torchvision

    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    def serve(folder: Path) -> None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def assert_torchvision_reads_the_same(root: Path, data) -> None:
    import torchvision

    for train, x, y in ((True, data.x_train, data.y_train), (False, data.x_test, data.y_test)):
        oracle = torchvision.datasets.MNIST(str(root), train=train)
        assert oracle.targets.equal(y)
        assert torch.allclose((oracle.data[:, None] / 255 - 0.1307) / 0.3081, x, atol=1e-6)


def test_download_fetches_once_and_torchvision_reads_the_same(tmp_path, monkeypatch, mirror):
    import torchvision

    served, root = tmp_path / "served", tmp_path / "root"
    write_idx_folder(served)
    sums = [(p.name, hashlib.md5(p.read_bytes()).hexdigest()) for p in sorted(served.iterdir())]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    mirror(served)
    data = Mnist(root=root, download=True).load()
    assert_torchvision_reads_the_same(root, data)
    before = listing(root)
    assert Mnist(root=root / "MNIST", download=True).load().y_train.equal(data.y_train)  # there already
    assert listing(root) == before


@pytest.mark.slow
def test_download_of_real_mnist(tmp_path, mirror):
    mirror(shared("MNIST", "raw"))
    data = Mnist(root=tmp_path, download=True).load()
    assert data.y_train.bincount().tolist() == MNIST_TRAIN
    assert_torchvision_reads_the_same(tmp_path, data)
    assert torch.equal(data.x_train, Mnist(root=SHARED).load().x_train)  # packed and unpacked files alike


def test_download_into_an_impossible_folder_says_so(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=r"mnist: download into .*file failed \(.*check the connection"):
        Mnist(root=tmp_path / "file", download=True).load()
