"""Data sets of every kind: what they load, say and refuse."""

import itertools
import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from small_datasets import (
    listing,
    official,
    write_cifar10,
    write_idx_folder,
    write_npz,
)

from autoflip_secure.errors import DataError
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
    Speakers,
    Table,
    TinyImageNet,
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


def make_tiny_imagenet(folder: Path) -> TinyImageNet:
    inside = folder / "tiny-imagenet-200"
    listed = []
    for number in range(12):
        name, part = f"n{number % 3}", inside / ("val" if number < 6 else f"train/n{number % 3}") / "images"
        part.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), 20 * number, dtype=np.uint8)).save(part / f"{number}.JPEG")
        listed += [f"{number}.JPEG\t{name}\t0\t0\t1\t1"] if number < 6 else []
    (inside / "wnids.txt").write_text("n0\nn1\nn2\n")
    (inside / "val" / "val_annotations.txt").write_text("\n".join(listed))
    return TinyImageNet(root=folder)


def make_speakers(folder: Path) -> Speakers:
    said = "to be or not to be, that is the question"
    (folder / "input.txt").write_text(f"A:\n{said}\n\nB:\n{said[::-1]}\n")
    return Speakers(path=folder, length=4, min_samples=5, test_share=0.3)


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
    TinyImageNet: (make_tiny_imagenet, (3, 64, 64), 3),
    Npz: (make_npz, (3, 8, 8), 3),
    Table: (make_table, (2,), 2),
    ImageFolder: (make_images, (3, 6, 5), 2),
    Leaf: (make_leaf, (1, 2, 2), 2),
    Speakers: (make_speakers, (4,), 14),
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
        assert x.dtype == (torch.int64 if cls is Speakers else torch.float32)
        assert y.dtype == torch.int64
        assert x.shape == (len(y), *shape)
        assert x.isfinite().all()
        assert cls is Speakers or set(y.tolist()) == set(range(classes))  # not every character follows
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


# ------------------------------------------------------------------------------------------ options


def test_options_are_checked():
    with pytest.raises(ValidationError):
        Digits(train_samples=0)
    with pytest.raises(ValidationError):
        Digits(root="x")
    with pytest.raises(ValidationError):
        Npz()
