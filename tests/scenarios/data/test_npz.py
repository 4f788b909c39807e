"""A user's own arrays, right and wrong."""

import os

import numpy as np
import pytest
import torch
from small_datasets import Evil, shared, write_npz

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.datasets import Cifar10, Cifar100, Npz


@pytest.mark.slow
def test_npz_of_real_cifar_has_the_known_counts_and_channel_means():
    data = Npz(path=shared("CIFAR10_subset", "cifar10_10k_2k.npz")).load()
    assert data.y_train.bincount().tolist() == [1000] * 10
    assert data.y_test.bincount().tolist() == [200] * 10
    assert data.class_names[0] == "airplane"
    assert (data.x_train.mean((0, 2, 3)) - torch.tensor(Cifar10.mean)).abs().max() < 0.01
    assert (data.x_train.std((0, 2, 3)) - torch.tensor(Cifar10.std)).abs().max() < 0.01


@pytest.mark.slow
def test_cifar100_constants_fit_the_real_subset():
    data = Npz(path=shared("CIFAR100_subset", "cifar100_5k_1k.npz")).load()
    assert data.num_classes == 100
    assert (data.x_train.mean((0, 2, 3)) - torch.tensor(Cifar100.mean)).abs().max() < 0.01
    assert (data.x_train.std((0, 2, 3)) - torch.tensor(Cifar100.std)).abs().max() < 0.01


@pytest.mark.parametrize(
    ("shape", "order", "expected"),
    [
        ((8, 9, 3), "auto", (3, 8, 9)),
        ((3, 8, 9), "auto", (3, 8, 9)),
        ((8, 9), "auto", (1, 8, 9)),
        ((8, 9), "as_is", (8, 9)),
        ((7,), "auto", (7,)),
        ((8, 9, 5), "nhwc", (5, 8, 9)),
        ((5, 8, 9), "nchw", (5, 8, 9)),
        ((8, 9, 5), "as_is", (8, 9, 5)),
        ((2, 3, 4, 5), "auto", (2, 3, 4, 5)),
    ],
)
def test_npz_brings_images_to_channels_first(tmp_path, shape, order, expected):
    x = np.random.default_rng(0).normal(size=(12, *shape)).astype(np.float32)
    path = write_npz(tmp_path / "a.npz", x_train=x, x_test=x[:6])
    data = Npz(path=path, order=order).load()
    assert data.input_shape == expected
    moved = np.moveaxis(x, 3, 1) if len(shape) == 3 and expected != shape else x.reshape(12, *expected)
    assert np.array_equal(data.x_train.numpy(), moved)  # floats are taken as they are


def test_npz_bytes_are_divided_by_255_and_owners_kept(tmp_path):
    owners = np.arange(12) // 3 + 100
    data = Npz(path=write_npz(tmp_path / "a.npz", groups=owners)).load()
    x = np.load(tmp_path / "a.npz")["x_train"]
    assert np.allclose(data.x_train.numpy(), np.moveaxis(x, 3, 1) / 255)
    assert data.groups is not None
    assert data.groups.tolist() == owners.tolist()


Z = np.zeros
BAD_NPZ = [
    ({"x_test": None, "y_test": None}, "has no x_test and no y_test; it holds x_train, y_train"),
    ({"y_train": Z(11, int)}, r"y_train is int64 \(11,\), expected 12 whole numbers"),
    ({"y_train": Z(12)}, r"y_train is float64"),
    ({"y_train": np.arange(12) - 1}, "y_train holds -1, expected classes numbered from 0"),
    ({"y_train": np.arange(12) % 3 * 2}, "labels run from 0 to 4, but y_train has no sample of class 1"),
    ({"y_train": np.arange(12) * 10**9}, "but y_train has no sample of class 1"),
    ({"y_train": Z(12, int), "y_test": Z(6, int)}, "a single class"),
    ({"x_test": Z((6, 8, 8, 1), np.uint8)}, r"x_test is uint8 \(1, 8, 8\)"),
    ({"x_test": Z((6, 8, 8, 3))}, "both or none be uint8"),
    ({"x_train": Z((12, 3, 8, 3), np.uint8)}, "channel axis is ambiguous .* `order: nchw`"),
    ({"x_train": Z((12, 7, 8, 9), np.uint8)}, "channel axis is unclear"),
    ({"x_train": np.full((12, 8, 8, 3), np.nan)}, "x_train holds NaN, infinity .* in 2304 places"),
    ({"x_train": np.full((12, 8, 8, 3), 1e300)}, "more than float32 can"),
    ({"x_train": np.full((12, 8), "a")}, "x_train is <U1"),
    ({"groups": np.arange(11)}, r"groups is int64 \(11,\)"),
    ({"class_names": np.array(["a"])}, "class_names is <U1 .*, expected 3 strings"),
    ({"y_train": np.array([Evil((os.getcwd, ()))] * 12, dtype=object)}, "y_train is an array of Python objects"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "message"), BAD_NPZ)
def test_npz_that_does_not_fit_is_refused_with_its_name(tmp_path, changed, message):
    path = write_npz(tmp_path / "mine.npz", **changed)
    with pytest.raises(DataError, match=message) as caught:
        Npz(path=path).load()
    assert str(path) in str(caught.value)


def test_npz_damaged_absent_or_something_else(tmp_path):
    path = write_npz(tmp_path / "mine.npz")
    os.truncate(path, 3000)
    with pytest.raises(DataError, match="found 3000 bytes that are not a whole"):
        Npz(path=path).load()
    with pytest.raises(DataError, match="no such file"):
        Npz(path=tmp_path / "none.npz").load()
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="is a single numpy array"):
        Npz(path=tmp_path / "one.npy").load()
    with pytest.raises(DataError, match="cannot be read"):
        Npz(path=tmp_path).load()
