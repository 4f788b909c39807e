"""The data sets by name. Images are (channels, height, width); samples keep the order of the files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from autoflip_secure.scenarios.data.arrays import ORDER, Order, judged
from autoflip_secure.scenarios.data.base import Arrays, Dataset, DataSource, stratified
from autoflip_secure.scenarios.data.cifar import Cifar10, Cifar100
from autoflip_secure.scenarios.data.custom import CustomData
from autoflip_secure.scenarios.data.files import absolute
from autoflip_secure.scenarios.data.huggingface import HuggingFace
from autoflip_secure.scenarios.data.images import ImageFolder
from autoflip_secure.scenarios.data.leaf import Leaf
from autoflip_secure.scenarios.data.mnist import FashionMnist, Mnist
from autoflip_secure.scenarios.data.npz import read_arrays
from autoflip_secure.scenarios.data.speakers import Speakers
from autoflip_secure.scenarios.data.table import Table
from autoflip_secure.scenarios.data.tiny_imagenet import TinyImageNet
from autoflip_secure.seeds import Purpose, numpy_generator

__all__ = [
    "DATASETS", "Cifar10", "Cifar100", "CustomData", "DataSource", "Dataset", "Digits", "FashionMnist", "HuggingFace",
    "ImageFolder", "Leaf", "Mnist", "Npz", "Speakers", "Table", "TinyImageNet",
]  # fmt: skip

_SPLIT = 2  # last word of the address of the fixed digits split


class Digits(DataSource):
    """Handwritten digits of scikit-learn, 8x8, 1,438 + 359 samples, embedded: needs no files."""

    kind: Literal["digits"] = "digits"
    source: ClassVar[str] = "scikit-learn's load_digits, from Alpaydin and Kaynak 1998 (UCI)"

    def read(self) -> Arrays:
        """Grey levels 0 to 16; a stratified fifth, the same for all seeds, is the test set."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x, y = bunch.images[:, None].astype(np.float32), bunch.target.astype(np.int64)
        test = np.zeros(len(y), dtype=bool)
        test[stratified(y, round(len(y) / 5), numpy_generator(0, Purpose.DATA_SUBSET, _SPLIT))] = True
        names = tuple(str(digit) for digit in range(10))
        return Arrays(x[~test], y[~test], x[test], y[test], class_names=names, scale=16.0)


class Npz(DataSource):
    """Your own arrays: an .npz with x_train, y_train, x_test, y_test and, for by_group, groups."""

    kind: Literal["npz"] = "npz"
    source: ClassVar[str] = "your own data"
    path: Path = Field(description="the .npz file; pickled arrays are refused; uint8 is divided by 255")
    order: Order = Field(default="auto", description=ORDER)

    def places(self) -> tuple[str, ...]:
        """The file as it is meant now."""
        return (str(absolute(self.path)),)

    def read(self) -> Arrays:
        """The arrays, checked."""
        path = absolute(self.path)
        return judged(path, read_arrays(path), self.order)


DATASETS: tuple[type[DataSource], ...] = (
    Digits, Mnist, FashionMnist, Cifar10, Cifar100, TinyImageNet, Npz, Table, ImageFolder, Leaf, Speakers, HuggingFace,
    CustomData,
)  # fmt: skip
