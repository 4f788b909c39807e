"""CIFAR-10 and CIFAR-100: pickled batches, read once torchvision's checksums say that they are the official ones.

Pixels are scaled to [0, 1], then standardised with the mean and standard deviation of the training pixels per channel.
Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.arrays import REQUIRED, judged
from autoflip_secure.scenarios.data.base import Arrays
from autoflip_secure.scenarios.data.folder import FileSource, within_root
from autoflip_secure.scenarios.data.image_size import IMAGE_SIZE, ImageSize, resized
from autoflip_secure.scenarios.data.npz import read_arrays
from autoflip_secure.scenarios.data.torchvision_files import read_cifar

Part = tuple[NDArray[Any], NDArray[np.int64]]


class _Cifar(FileSource):
    """32x32 colour images in pickled batches."""

    npz: Path | None = Field(
        default=None,
        description="an .npz of images of this set (x_train, y_train, x_test, y_test; uint8, 32x32), such as a subset, "
        "instead of its batches; as given, else within root",
    )
    image_size: ImageSize = Field(default=None, description=IMAGE_SIZE)
    folder: ClassVar[str]
    archive: ClassVar[str]  # as it is distributed
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

    def places(self) -> tuple[str, ...]:
        """The data folder, and the .npz."""
        return (*super().places(), "" if self.npz is None else str(within_root(self.npz, self.root)))

    def read(self) -> Arrays:
        """All batches, or the .npz."""
        train, test, names = self._batches() if self.npz is None else self._subset(within_root(self.npz, self.root))
        (x_train, y_train), (x_test, y_test) = ((resized(x, self.image_size), y) for x, y in (train, test))
        return Arrays(
            x_train, y_train, x_test, y_test, class_names=names, scale=255.0, mean=self.mean, std=self.std
        )  # fmt: skip

    def _batches(self) -> tuple[Part, Part, tuple[str, ...]]:
        return read_cifar(self.torchvision_name, self.folder, self.find())

    def _subset(self, path: Path) -> tuple[Part, Part, tuple[str, ...]]:
        members = read_arrays(path)
        found = judged(path, {name: members[name] for name in REQUIRED}, "auto", self.classes)
        for name, x in (("x_train", found.x_train), ("x_test", found.x_test)):
            if x.dtype != np.uint8 or x.shape[1:] != (3, 32, 32):
                raise DataError(
                    f"{path}: {name} is {x.dtype} {x.shape[1:]} per sample, expected bytes of 3 x 32 x 32; images of "
                    "another kind go into {kind: npz}"
                )
        names = members.get("class_names")
        named = found.class_names if names is None or len(names) != self.classes else tuple(map(str, names))
        return (found.x_train, found.y_train), (found.x_test, found.y_test), named


class Cifar10(_Cifar):
    """CIFAR-10 photographs, 32x32 colour, 10 classes, 50,000 + 10,000 samples."""

    kind: Literal["cifar10"] = "cifar10"
    source: ClassVar[str] = "Krizhevsky 2009"
    torchvision_name: ClassVar[str] = "CIFAR10"
    classes: ClassVar[int] = 10
    folder: ClassVar[str] = "cifar-10-batches-py"
    archive: ClassVar[str] = "cifar-10-python.tar.gz"
    files: ClassVar[tuple[str, ...]] = (
        *(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        "batches.meta",
    )
    mean: ClassVar[tuple[float, float, float]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, float, float]] = (0.2470, 0.2435, 0.2616)


class Cifar100(_Cifar):
    """CIFAR-100 photographs, 32x32 colour, 100 classes, 50,000 + 10,000 samples."""

    kind: Literal["cifar100"] = "cifar100"
    source: ClassVar[str] = "Krizhevsky 2009"
    torchvision_name: ClassVar[str] = "CIFAR100"
    classes: ClassVar[int] = 100
    folder: ClassVar[str] = "cifar-100-python"
    archive: ClassVar[str] = "cifar-100-python.tar.gz"
    files: ClassVar[tuple[str, ...]] = ("train", "test", "meta")
    mean: ClassVar[tuple[float, float, float]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, float, float]] = (0.2673, 0.2564, 0.2762)
