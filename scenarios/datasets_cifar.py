"""CIFAR-10 and CIFAR-100: pickled batches, read without running them.

Pixels are scaled to [0, 1], then standardised with the mean and standard deviation of the training pixels per channel.
Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from autoflip_secure.errors import DataError
from scenarios.datasets_base import Arrays
from scenarios.datasets_folder import FileSource
from scenarios.datasets_pickle import read_pickle


class _Cifar(FileSource):
    """32x32 colour images in pickled batches, read without running them."""

    folder: ClassVar[str]
    train_files: ClassVar[tuple[str, ...]]
    test_file: ClassVar[str]
    meta_file: ClassVar[str]
    archive: ClassVar[str]  # as it is distributed
    labels_key: ClassVar[str]
    names_key: ClassVar[str]
    classes: ClassVar[int]
    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]]

    def folders(self) -> tuple[Path, ...]:
        """``root/FOLDER``; or root is that folder."""
        root = self.data_root()
        return (root / self.folder, root)

    def hint(self) -> str:
        """Where the archive lies that the files are packed in."""
        places = [place / self.archive for folder in self.folders() for place in (folder.parent, folder)]
        found = next((place for place in places if place.is_file()), None)
        return f"; they are packed in {found}: unpack it there with `tar -xzf`" if found else ""

    def read(self) -> Arrays:
        """All batches."""
        paths = self.find()
        parts = [self._part(paths[name]) for name in self.train_files]
        x_test, y_test = self._part(paths[self.test_file])
        names = read_pickle(paths[self.meta_file]).get(self.names_key)
        texts = isinstance(names, list) and all(isinstance(name, str | bytes) for name in names)
        if not isinstance(names, list) or not texts or len(names) != self.classes:
            raise DataError(
                f"{paths[self.meta_file]}: expected {self.classes} names in `{self.names_key}`; replace the file"
            )
        return Arrays(
            np.concatenate([x for x, _ in parts]),
            np.concatenate([y for _, y in parts]),
            x_test,
            y_test,
            class_names=tuple(str(name) for name in names),
            scale=255.0,
            mean=self.mean,
            std=self.std,
        )

    def _part(self, path: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
        content = read_pickle(path)
        x, y = content.get("data"), content.get(self.labels_key)
        if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != 3072 or len(x) == 0:
            raise DataError(f"{path}: expected bytes of shape (samples, 3072) in `data`; replace the file")
        if not isinstance(y, list) or len(y) != len(x) or not all(type(c) is int and 0 <= c < self.classes for c in y):
            raise DataError(
                f"{path}: expected {len(x)} labels from 0 to {self.classes - 1} in `{self.labels_key}`; "
                f"replace the file"
            )
        return x.reshape(-1, 3, 32, 32), np.array(y, dtype=np.int64)


class Cifar10(_Cifar):
    """CIFAR-10 photographs, 32x32 colour, 10 classes, 50,000 + 10,000 samples."""

    kind: Literal["cifar10"] = "cifar10"
    torchvision_name: ClassVar[str] = "CIFAR10"
    folder: ClassVar[str] = "cifar-10-batches-py"
    archive: ClassVar[str] = "cifar-10-python.tar.gz"
    train_files: ClassVar[tuple[str, ...]] = tuple(f"data_batch_{number}" for number in range(1, 6))
    test_file: ClassVar[str] = "test_batch"
    meta_file: ClassVar[str] = "batches.meta"
    files: ClassVar[tuple[str, ...]] = (*train_files, test_file, meta_file)
    labels_key: ClassVar[str] = "labels"
    names_key: ClassVar[str] = "label_names"
    classes: ClassVar[int] = 10
    mean: ClassVar[tuple[float, float, float]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, float, float]] = (0.2470, 0.2435, 0.2616)


class Cifar100(_Cifar):
    """CIFAR-100 photographs, 32x32 colour, 100 classes, 50,000 + 10,000 samples."""

    kind: Literal["cifar100"] = "cifar100"
    torchvision_name: ClassVar[str] = "CIFAR100"
    folder: ClassVar[str] = "cifar-100-python"
    archive: ClassVar[str] = "cifar-100-python.tar.gz"
    train_files: ClassVar[tuple[str, ...]] = ("train",)
    test_file: ClassVar[str] = "test"
    meta_file: ClassVar[str] = "meta"
    files: ClassVar[tuple[str, ...]] = (*train_files, test_file, meta_file)
    labels_key: ClassVar[str] = "fine_labels"
    names_key: ClassVar[str] = "fine_label_names"
    classes: ClassVar[int] = 100
    mean: ClassVar[tuple[float, float, float]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, float, float]] = (0.2673, 0.2564, 0.2762)
