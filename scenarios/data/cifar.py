"""CIFAR-10 and CIFAR-100: pickled batches, read once torchvision's checksums say that they are the official ones.

Pixels are scaled to [0, 1], then standardised with the mean and standard deviation of the training pixels per channel.
Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from autoflip_secure.scenarios.data.base import Arrays
from autoflip_secure.scenarios.data.folder import FileSource
from autoflip_secure.scenarios.data.torchvision_files import read_cifar


class _Cifar(FileSource):
    """32x32 colour images in pickled batches."""

    folder: ClassVar[str]
    archive: ClassVar[str]  # as it is distributed
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
        train, test, names = read_cifar(self.torchvision_name, self.folder, self.find())
        return Arrays(*train, *test, class_names=names, scale=255.0, mean=self.mean, std=self.std)


class Cifar10(_Cifar):
    """CIFAR-10 photographs, 32x32 colour, 10 classes, 50,000 + 10,000 samples."""

    kind: Literal["cifar10"] = "cifar10"
    source: ClassVar[str] = "Krizhevsky 2009"
    torchvision_name: ClassVar[str] = "CIFAR10"
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
    folder: ClassVar[str] = "cifar-100-python"
    archive: ClassVar[str] = "cifar-100-python.tar.gz"
    files: ClassVar[tuple[str, ...]] = ("train", "test", "meta")
    mean: ClassVar[tuple[float, float, float]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, float, float]] = (0.2673, 0.2564, 0.2762)
