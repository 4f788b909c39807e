"""Data sets: every kind, subsets, the real files, downloading; torchvision is the second reader."""

import functools
import hashlib
import http.server
import itertools
import json
import os
import pickle
import shutil
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from small_datasets import (
    MNIST_TEST,
    MNIST_TRAIN,
    SHARED,
    listing,
    official,
    shared,
    write_cifar10,
    write_idx_folder,
    write_npz,
)

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.base import Dataset, feature_scale, stratified
from autoflip_secure.scenarios.data.datasets import (
    DATASETS,
    Cifar10,
    Cifar100,
    CustomData,
    Digits,
    FashionMnist,
    HuggingFace,
    ImageFolder,
    Leaf,
    Mnist,
    Npz,
    Table,
)

# ------------------------------------------------------------------------------------------ every kind, one table


def make_digits(folder: Path) -> Digits:
    return Digits()


def make_mnist(folder: Path) -> Mnist:
    write_idx_folder(folder / "MNIST" / "raw")
    return Mnist(root=folder)


def make_fashion(folder: Path) -> FashionMnist:
    write_idx_folder(folder / "FashionMNIST" / "raw")
    return FashionMnist(root=folder)


def make_cifar10(folder: Path) -> Cifar10:
    write_cifar10(folder)
    return Cifar10(root=folder)


def make_cifar100(folder: Path) -> Cifar100:
    inside = folder / "cifar-100-python"
    inside.mkdir()
    rng = np.random.default_rng(3)
    for name, n in (("train", 200), ("test", 100)):
        data = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
        content = {"data": data, "fine_labels": [i % 100 for i in range(n)], "coarse_labels": [0] * n}
        (inside / name).write_bytes(pickle.dumps(content, protocol=2))
    (inside / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"fine {i}" for i in range(100)]}, protocol=2))
    return Cifar100(root=folder)


def make_npz(folder: Path) -> Npz:
    return Npz(path=write_npz(folder / "mine.npz"))


def make_table(folder: Path) -> Table:
    rows = [f"{i},{i % 7},{'ab'[i % 2]}" for i in range(40)]
    (folder / "table.csv").write_text("\n".join(["first,second,label", *rows]))
    return Table(path=folder / "table.csv", label="label")


def make_images(folder: Path) -> ImageFolder:
    rng = np.random.default_rng(4)
    for part, name, number in itertools.product(("train", "test"), ("cat", "dog"), range(3)):
        path = folder / part / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)
    return ImageFolder(path=folder)


def make_leaf(folder: Path) -> Leaf:
    for part in ("train", "test"):
        (folder / part).mkdir()
        users = {"a": {"x": [[0.5] * 4] * 2, "y": [0, 1]}, "b": {"x": [[0.25] * 4], "y": [1]}}
        content = {"users": ["a", "b"], "num_samples": [2, 1], "user_data": users}
        (folder / part / "all.json").write_text(json.dumps(content))
    return Leaf(path=folder, shape=(2, 2))


def make_huggingface(folder: Path) -> HuggingFace:
    rows = "\n".join(["u,v,label", *(f"{i},{i * i},{i % 3}" for i in range(12))])
    for part in ("train", "test"):
        (folder / f"{part}.csv").write_text(rows)
    return HuggingFace(path=folder)


def arrays_for_custom() -> dict[str, object]:
    x, y = torch.arange(24.0).reshape(8, 3), np.arange(8) % 2
    return {"x_train": x, "y_train": y, "x_test": x[:4], "y_test": y[:4], "groups": [0] * 4 + [1] * 4}


def make_custom(folder: Path) -> CustomData:
    sys.modules["data_for_tests"] = types.ModuleType("data_for_tests")
    sys.modules["data_for_tests"].load = arrays_for_custom  # type: ignore[attr-defined]
    return CustomData(factory="data_for_tests:load")


CASES = {
    Digits: (make_digits, (1, 8, 8), 10),
    Mnist: (make_mnist, (1, 28, 28), 10),
    FashionMnist: (make_fashion, (1, 28, 28), 10),
    Cifar10: (make_cifar10, (3, 32, 32), 10),
    Cifar100: (make_cifar100, (3, 32, 32), 100),
    Npz: (make_npz, (3, 8, 8), 3),
    Table: (make_table, (2,), 2),
    ImageFolder: (make_images, (3, 6, 5), 2),
    Leaf: (make_leaf, (1, 2, 2), 2),
    HuggingFace: (make_huggingface, (2,), 3),
    CustomData: (make_custom, (3,), 2),
}


def test_every_data_set_has_a_case():
    assert set(CASES) == set(DATASETS)


@pytest.mark.parametrize("cls", DATASETS)
def test_loads_tensors_of_the_promised_kind_once_and_writes_nothing(cls, tmp_path, monkeypatch):
    make, shape, classes = CASES[cls]
    source = make(tmp_path)
    official(monkeypatch, tmp_path)
    before = listing(tmp_path)
    data = source.load()
    assert listing(tmp_path) == before
    assert data.name == source.kind
    assert data.input_shape == shape
    assert data.num_classes == classes == len(data.class_names)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.shape == (len(y), *shape)
        assert x.isfinite().all()
        assert set(y.tolist()) == set(range(classes))
    assert type(source)(**source.model_dump()).load() is data  # an equal configuration, the cached data


@pytest.mark.parametrize("cls", DATASETS)
def test_every_option_is_described_and_every_kind_has_its_line(cls):
    assert cls.__doc__
    assert [name for name, field in cls.model_fields.items() if not field.description] == ["kind"]


@pytest.mark.parametrize("cls", [Mnist, FashionMnist, Cifar10, Cifar100])
def test_missing_files_are_named_with_folder_and_both_ways_out(cls, tmp_path):
    with pytest.raises(DataError) as caught:
        cls(root=tmp_path / "nothing").load()
    message = str(caught.value)
    for name in cls.files:
        assert name in message
    assert str(cls(root=tmp_path / "nothing").folders()[0]) in message
    assert "root" in message
    assert "download: true" in message


def test_a_single_missing_file_is_named_alone(tmp_path):
    write_idx_folder(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"mnist: t10k-labels-idx1-ubyte\[\.gz\] not in .*raw"):
        Mnist(root=tmp_path).load()


# ------------------------------------------------------------------------------------------ digits, subsets


def test_digits_are_the_embedded_images_split_once_and_for_all():
    from sklearn.datasets import load_digits

    data, whole = Digits().load(), load_digits()
    assert (len(data.x_train), len(data.x_test)) == (1438, 359)
    assert data.x_train.min() == 0
    assert data.x_train.max() == 1
    ours = sorted(
        zip(
            [tuple(x) for x in torch.cat([data.x_train, data.x_test]).flatten(1).mul(16).int().tolist()],
            torch.cat([data.y_train, data.y_test]).tolist(),
            strict=True,
        )
    )
    theirs = sorted(zip([tuple(x) for x in whole.data.astype(int).tolist()], whole.target.tolist(), strict=True))
    assert ours == theirs
    shares = data.y_test.bincount() / data.y_train.bincount()
    assert ((shares - 0.25).abs() < 0.01).all()


def test_subset_keeps_class_shares_is_fixed_and_comes_from_the_whole():
    whole, part = Digits().load(), Digits(train_samples=200, test_samples=50).load()
    assert (len(part.y_train), len(part.y_test)) == (200, 50)
    assert set(map(tuple, part.x_train.flatten(1).tolist())) <= set(map(tuple, whole.x_train.flatten(1).tolist()))
    assert (part.y_train.bincount() - whole.y_train.bincount() * 200 / 1438).abs().max() <= 1
    assert Digits(train_samples=200).load().x_train.equal(part.x_train)


@pytest.mark.parametrize("size", [9, 1439])
def test_impossible_subset_says_the_bounds(size):
    with pytest.raises(DataError, match=rf"digits: train_samples = {size} must lie between 10 .* and 1438"):
        Digits(train_samples=size).load()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.data())
def test_stratified_takes_every_class_and_its_share(labels, draw):
    y = np.array(labels)
    classes, counts = np.unique(y, return_counts=True)
    size = draw.draw(st.integers(len(classes), len(y)))
    rows = stratified(y, size, np.random.default_rng(0))
    assert len(rows) == size == len(set(rows.tolist()))
    taken = np.array([(y[rows] == c).sum() for c in classes])
    assert (taken >= 1).all()
    share = 1 + (size - len(classes)) * (counts - 1) / max(1, len(y) - len(classes))
    assert (np.abs(taken - share) < 1).all()


# ------------------------------------------------------------------------------------------ real files


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
    for train, x, y in ((True, data.x_train, data.y_train), (False, data.x_test, data.y_test)):
        oracle = torchvision.datasets.MNIST(str(root), train=train)
        assert oracle.targets.equal(y)
        assert torch.allclose((oracle.data[:, None] / 255 - 0.1307) / 0.3081, x, atol=1e-6)


def test_download_fetches_once_and_torchvision_reads_the_same(tmp_path, monkeypatch, mirror):
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


# ------------------------------------------------------------------------------------------ options


def test_options_are_checked():
    with pytest.raises(ValidationError):
        Digits(train_samples=0)
    with pytest.raises(ValidationError):
        Digits(root="x")
    with pytest.raises(ValidationError):
        Npz()


# -------------------------------------------------------------------------------------------- what records say of data


def test_the_scale_of_features_is_that_of_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(5000, 2, 3)).astype(np.float32) * np.float32(10.0) ** np.arange(3)
    x[:, 1, 1] += 1e6  # far from zero is not scaled either, however little it varies
    by_hand = np.sqrt((x.astype(np.float64).reshape(5000, 6) ** 2).mean(0))
    found = feature_scale(torch.from_numpy(x))
    assert (found.columns, found.where) == (6, 4)
    assert found.largest == pytest.approx(by_hand[4], rel=1e-3)
    assert found.typical == pytest.approx(np.sort(by_hand)[2], rel=1e-3)
    huge = feature_scale(torch.full((3, 2), 3e38))  # squares that single precision cannot hold
    assert huge.largest == pytest.approx(3e38, rel=1e-3)


def test_a_record_knows_what_guessing_gives_and_that_tokens_have_no_scale() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    parts = {
        "name": "x",
        "y_train": labels,
        "y_test": labels,
        "num_classes": 3,
        "groups": None,
        "class_names": ("a", "b", "c"),
    }
    table = Dataset(x_train=torch.ones(4, 2), x_test=torch.ones(4, 2), **parts).record
    assert (table.classes, table.largest_class) == (3, 0.75)
    assert table.features is not None
    tokens = torch.full((4, 2), 30_000)
    assert Dataset(x_train=tokens, x_test=tokens, **parts).record.features is None
