"""MNIST and Fashion-MNIST: four idx files each, packed or not.

Pixels are scaled to [0, 1], then standardised with the mean and standard deviation of the training pixels.
Sources: LeCun et al. 1998; Xiao et al. 2017; the writers of the digits: Yadav and Bottou 2019 (QMNIST).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.arrays import read_owners
from autoflip_secure.scenarios.data.base import Arrays
from autoflip_secure.scenarios.data.files import absolute
from autoflip_secure.scenarios.data.folder import FileSource, within_root
from autoflip_secure.scenarios.data.image_size import IMAGE_SIZE, ImageSize, resized
from autoflip_secure.scenarios.data.npz import read_members
from autoflip_secure.scenarios.data.torchvision_files import read_idx, read_qmnist_labels

_WRITER = 2  # column of QMNIST's labels
_IDX_FOLDERS = ("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST")  # torchvision's sets with the same file names


class _Idx(FileSource):
    """28x28 grey images in four idx files."""

    files: ClassVar[tuple[str, ...]] = tuple(
        f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
    )
    packed: ClassVar[bool] = True
    image_size: ImageSize = Field(default=None, description=IMAGE_SIZE)
    class_names: ClassVar[tuple[str, ...]]
    mean: ClassVar[float]
    std: ClassVar[float]

    def folders(self) -> tuple[Path, ...]:
        """``root/NAME/raw``; or root is that NAME, or that raw folder, unless it is another data set's."""
        root, name = self.data_root(), self.torchvision_name
        others = {other for other in _IDX_FOLDERS if other != name}
        candidates = [root / name / "raw"]
        if root.name not in others:
            candidates.append(root / "raw")
            if root.parent.name not in others or root.name != "raw":
                candidates.append(root)
        return tuple(candidates)

    def read(self) -> Arrays:
        """The four files, packed or not."""
        found = self.find()
        paths = [found[name] for name in self.files]
        x_train, y_train = self._part(paths[0], paths[1])
        x_test, y_test = self._part(paths[2], paths[3])
        return Arrays(
            x_train,
            y_train,
            x_test,
            y_test,
            class_names=self.class_names,
            groups=self._owners(len(y_train)),
            scale=255.0,
            mean=(self.mean,),
            std=(self.std,),
        )

    def _owners(self, samples: int) -> NDArray[np.int64] | None:
        return None

    def _part(self, images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        x, y = read_idx(self.torchvision_name, images, 3), read_idx(self.torchvision_name, labels, 1)
        if x.shape[1:] != (28, 28) or len(x) == 0:
            raise DataError(
                f"{images}: holds {x.shape[0]} images of {x.shape[1]} x {x.shape[2]}, expected some of 28 x 28"
            )
        if len(x) != len(y):
            raise DataError(
                f"{labels}: holds {len(y)} labels, but {images.name} holds {len(x)} images; replace one of them"
            )
        if y.max() >= len(self.class_names):
            raise DataError(
                f"{labels}: holds label {y.max()}, expected 0 to {len(self.class_names) - 1}; replace the file"
            )
        return resized(x[:, None], self.image_size), y.astype(np.int64)


class Mnist(_Idx):
    """MNIST handwritten digits, 28x28 grey, 60,000 + 10,000 samples."""

    kind: Literal["mnist"] = "mnist"
    source: ClassVar[str] = "LeCun et al. 1998; writers: Yadav and Bottou 2019 (QMNIST)"
    groups: Path | None = Field(
        default=None,
        description="who wrote every training digit (for by_group): QMNIST's qmnist-train-labels-idx2-int.gz, or an "
        ".npz with `train_writer`; as given, else within root",
    )
    torchvision_name: ClassVar[str] = "MNIST"
    class_names: ClassVar[tuple[str, ...]] = tuple(str(digit) for digit in range(10))
    mean: ClassVar[float] = 0.1307
    std: ClassVar[float] = 0.3081

    def places(self) -> tuple[str, ...]:
        """The data folder and the file of writers."""
        return (*super().places(), "" if self.groups is None else str(absolute(self.groups)))

    def _owners(self, samples: int) -> NDArray[np.int64] | None:
        if self.groups is None:
            return None
        path = within_root(self.groups, self.root)
        if path.suffix == ".npz":
            return read_owners(path, "train_writer", read_members(path, ("train_writer",))["train_writer"], samples)
        return read_owners(path, "column 3 (writer)", read_qmnist_labels(path)[:, _WRITER], samples)


class FashionMnist(_Idx):
    """Fashion-MNIST pieces of clothing, 28x28 grey, 60,000 + 10,000 samples."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    source: ClassVar[str] = "Xiao et al. 2017"
    torchvision_name: ClassVar[str] = "FashionMNIST"
    class_names: ClassVar[tuple[str, ...]] = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
    mean: ClassVar[float] = 0.2860
    std: ClassVar[float] = 0.3530
