"""Tiny ImageNet's layout, subsets of CIFAR, other image sizes, writers of digits and a choice of owners."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_datasets import SHARED, shared, write_idx_folder

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.base import TRAIN, subset_rows
from autoflip_secure.scenarios.data.cifar import Cifar10, Cifar100
from autoflip_secure.scenarios.data.datasets import Digits, Npz
from autoflip_secure.scenarios.data.image_size import resized
from autoflip_secure.scenarios.data.mnist import FashionMnist, Mnist
from autoflip_secure.scenarios.data.tiny_imagenet import TinyImageNet

CLASSES = ("n02", "n01", "n03")
RNG = np.random.default_rng(0)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three classes of four images, five to validate, one of them grey."""
    from PIL import Image

    folder = tmp_path / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "words.txt").write_text("n01\tgoldfish, Carassius\nn99\tnothing\n")

    def save(path: Path, level: int, mode: str = "RGB") -> None:
        pixels = np.full((64, 64, 3) if mode == "RGB" else (64, 64), level, dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    for number, name in enumerate(CLASSES):
        (folder / "train" / name / "images").mkdir(parents=True)
        for image in range(4):
            mode = "L" if number == image == 0 else "RGB"
            save(folder / "train" / name / "images" / f"{name}_{image}.JPEG", 50 * number + 10 * image, mode)
    lines = []
    for image in range(5):
        save(folder / "val" / "images" / f"val_{image}.JPEG", 30 * image)
        lines.append(f"val_{image}.JPEG\t{CLASSES[image % 3]}\t0\t0\t9\t9")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_tiny_imagenet(tiny: Path) -> None:
    data = TinyImageNet(root=tiny.parent).load()
    assert data.class_names == ("n02", "goldfish", "n03")
    assert data.x_train.shape == (12, 3, 64, 64)
    assert data.y_train.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.y_test.tolist() == [0, 1, 2, 0, 1]
    level = (
        data.x_train[5].numpy() * np.array([0.2770, 0.2691, 0.2821])[:, None, None]
        + np.array([0.4802, 0.4481, 0.3975])[:, None, None]
    )
    assert abs(float(level.mean()) * 255 - 60) < 1.5  # class 1, image 1: 50 + 10, but for JPEG
    small = TinyImageNet(root=tiny, image_size=8).load()
    assert small.x_train.shape == (12, 3, 8, 8)
    assert abs(small.x_train[:, :, 0, 0] - data.x_train[:, :, 0, 0]).max() < 0.05  # plain images


@pytest.mark.parametrize("size", [3, 7, 12])
def test_the_subset_is_that_of_any_data_set_and_no_other_image_is_read(tiny: Path, size: int) -> None:
    every = TinyImageNet(root=tiny, image_size=4).load()
    rows = subset_rows("", "train_samples", size, every.y_train.numpy(), TRAIN)
    assert not isinstance(rows, slice)
    paths = [tiny / "train" / name / "images" / f"{name}_{image}.JPEG" for name in CLASSES for image in range(4)]
    for row, path in enumerate(paths):
        if row not in rows:
            path.write_bytes(b"damaged")
    part = TinyImageNet(root=tiny, image_size=4, train_samples=size).load()
    assert part.x_train.equal(every.x_train[rows])
    assert part.y_train.equal(every.y_train[rows])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "wnids.txt").unlink(), r"has no wnids.txt; unpack the archive .*change data.root"),
        (lambda folder: (folder / "wnids.txt").write_text("n01\n"), r"wnids.txt: expected the names of two or more"),
        (lambda folder: (folder / "wnids.txt").write_text("n01\nn02\nn07\n"), r"n07.images: has no \*.JPEG; unpack"),
        (
            lambda folder: (folder / "val" / "val_annotations.txt").write_text("a.JPEG\tn77\t0\n"),
            r"val_annotations.txt:1: names the class 'n77', which is none of the 3",
        ),
        (lambda folder: (folder / "val" / "val_annotations.txt").unlink(), r"val_annotations.txt: no such file"),
        (lambda folder: (folder / "val" / "images" / "val_2.JPEG").unlink(), r"val_2.JPEG: no such file"),
        (
            lambda folder: (folder / "val" / "images" / "val_2.JPEG").write_text("<html>"),
            r"val_2.JPEG: .*a web page",
        ),
    ],
)
def test_damaged_tiny_imagenet(tiny: Path, damage: Any, message: str) -> None:
    damage(tiny)
    with pytest.raises(DataError, match=message):
        TinyImageNet(root=tiny.parent).load()


def test_resizing_is_pillows() -> None:
    from PIL import Image

    images = RNG.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    found = resized(images, 24)
    for image, small in zip(images, found, strict=True):
        whole = Image.fromarray(image.transpose(1, 2, 0)).resize((24, 24), Image.Resampling.BILINEAR)
        assert np.array_equal(small, np.asarray(whole).transpose(2, 0, 1))
    assert resized(images, None) is images
    assert resized(images, 32) is images


@pytest.mark.parametrize(("cls", "classes"), [(Cifar10, 10), (Cifar100, 100)])
def test_a_subset_of_cifar_is_normalised_as_the_set(cls: type[Cifar10], classes: int, tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (2 * classes, 32, 32, 3), dtype=np.uint8)
    y = np.arange(2 * classes) % classes
    np.savez(tmp_path / "subset.npz", x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    data = cls(root=tmp_path, npz=Path("subset.npz")).load()
    expected = (x.transpose(0, 3, 1, 2) / 255 - np.array(cls.mean)[:, None, None]) / np.array(cls.std)[:, None, None]
    np.testing.assert_allclose(data.x_train, expected, rtol=1e-5, atol=1e-5)
    assert data.num_classes == classes
    assert cls(root=tmp_path, npz=Path("subset.npz"), image_size=24).load().x_train.shape[1:] == (3, 24, 24)


def test_what_is_no_subset_of_cifar(tmp_path: Path) -> None:
    x, y = np.zeros((20, 16, 16, 3), dtype=np.uint8), np.arange(20) % 10
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(
        DataError, match=r"other.npz: x_train is uint8 \(3, 16, 16\) per sample, expected bytes of 3 x 32"
    ):
        Cifar10(npz=tmp_path / "other.npz").load()
    with pytest.raises(DataError, match=r"none.npz: no such file"):
        Cifar10(npz=tmp_path / "none.npz").load()


@pytest.mark.slow
def test_real_subsets() -> None:
    shared("CIFAR10_subset")
    data = Cifar10(root=SHARED, npz=Path("CIFAR10_subset/cifar10_10k_2k.npz")).load()
    assert data.y_train.bincount().tolist() == [1000] * 10
    assert data.class_names[3] == "cat"
    assert abs(data.x_train.mean()) < 0.02
    other = Cifar100(root=SHARED, npz=Path("CIFAR100_subset/cifar100_5k_1k.npz"), image_size=24).load()
    assert other.x_train.shape == (5000, 3, 24, 24)
    assert other.y_train.bincount().tolist() == [50] * 100


def test_smaller_digits(tmp_path: Path) -> None:
    write_idx_folder(tmp_path / "MNIST" / "raw", packed=False)
    write_idx_folder(tmp_path / "FashionMNIST" / "raw", packed=False)
    for cls in (Mnist, FashionMnist):
        assert cls(root=tmp_path, image_size=24).load().x_train.shape == (40, 1, 24, 24)


def qmnist(path: Path, writers: list[int]) -> None:
    rows = np.zeros((len(writers), 8), dtype=">i4")
    rows[:, 2] = writers
    path.write_bytes(gzip.compress(struct.pack(">III", 0x0C02, len(writers), 8) + rows.tobytes()))


def test_writers_from_the_labels_of_qmnist(tmp_path: Path) -> None:
    write_idx_folder(tmp_path / "MNIST" / "raw", packed=False)
    writers = [7] * 20 + [3] * 15 + [9] * 5
    qmnist(tmp_path / "labels.gz", writers)
    data = Mnist(root=tmp_path, groups=Path("labels.gz")).load()
    assert data.groups is not None
    assert data.groups.tolist() == writers
    two = Mnist(root=tmp_path, groups=Path("labels.gz"), owners=2).load()
    assert two.groups is not None
    assert two.groups.tolist() == writers[:35]
    assert two.x_train.equal(data.x_train[:35])
    assert len(two.x_test) == len(data.x_test)
    qmnist(tmp_path / "short.gz", writers[:5])
    with pytest.raises(
        DataError, match=r"column 3 \(writer\) is int64 \(5,\), expected one whole number for each of the 40"
    ):
        Mnist(root=tmp_path, groups=Path("short.gz")).load()
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"\0" * 99))
    with pytest.raises(DataError, match=r"bad.gz: found \d+ bytes that are not a whole file of QMNIST's labels"):
        Mnist(root=tmp_path, groups=Path("bad.gz")).load()


@pytest.mark.slow
def test_the_official_labels_name_the_writers() -> None:
    shared("QMNIST", "raw", "qmnist-train-labels-idx2-int.gz")
    shared("MNIST")
    one = Mnist(root=SHARED, groups=Path("QMNIST/raw/qmnist-train-labels-idx2-int.gz")).load()
    other = Mnist(root=SHARED, groups=Path("QMNIST/mnist_writers.npz")).load()
    assert one.groups is not None
    assert other.groups is not None
    assert one.groups.equal(other.groups)


def test_owners_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"digits: owners = 3, and the data set names no owners; leave it out"):
        Digits(owners=3).load()
    x, y = np.random.default_rng(0).random((12, 4)), np.arange(12) % 2
    np.savez(
        tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y, groups=np.array([5] * 3 + [1] * 3 + [2] * 6)
    )
    data = Npz(path=tmp_path / "mine.npz", owners=2).load()
    assert data.groups is not None
    assert data.groups.tolist() == [1] * 3 + [2] * 6  # of equals the lower number
