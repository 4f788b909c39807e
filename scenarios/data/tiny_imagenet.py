"""Tiny ImageNet as it is distributed: a folder a class of training images, validation images with a list of classes.

Pixels are scaled to [0, 1], then standardised with the mean and standard deviation of the training pixels per channel.
The validation images test: the official test images have no public labels. Only images that are asked for
(``train_samples``, ``test_samples``) are read; all of them are 1.3 GB of pixels, and four times that as numbers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.base import TEST, TRAIN, Arrays, DataSource, subset_rows
from autoflip_secure.scenarios.data.files import opened
from autoflip_secure.scenarios.data.folder import ROOT_VARIABLE, data_root, other_root
from autoflip_secure.scenarios.data.image_size import IMAGE_SIZE, ImageSize
from autoflip_secure.scenarios.data.images import read_image

_FOLDER = "tiny-imagenet-200"
_LAYOUT = "unpack the archive tiny-imagenet-200.zip there, with its folders train and val as they are"
_SIDE = 64
Files = tuple[list[Path], NDArray[np.int64]]


class TinyImageNet(DataSource):
    """Tiny ImageNet photographs, 64x64 colour, 200 classes, 100,000 + 10,000 samples (its validation set)."""

    kind: Literal["tiny_imagenet"] = "tiny_imagenet"
    source: ClassVar[str] = "Le and Yang 2015 (Stanford CS 231N), from ImageNet"
    root: Path | None = Field(
        default=None,
        description=f"folder that holds {_FOLDER}, or that folder; null = the environment variable {ROOT_VARIABLE}, "
        "else ./data",
    )
    image_size: ImageSize = Field(default=None, description=IMAGE_SIZE)
    mean: ClassVar[tuple[float, float, float]] = (0.4802, 0.4481, 0.3975)
    std: ClassVar[tuple[float, float, float]] = (0.2770, 0.2691, 0.2821)

    def places(self) -> tuple[str, ...]:
        """The data folder as it is meant now."""
        return (str(self._folder()),)

    def read(self) -> Arrays:
        """The images that are asked for, in the order of class and file name."""
        folder = self._folder()
        if not os.path.isfile(folder / "wnids.txt"):
            raise DataError(f"tiny_imagenet: {folder}: has no wnids.txt; {_LAYOUT}, and {other_root(self.root)}")
        classes = _lines(folder / "wnids.txt")
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise DataError(
                f"{folder / 'wnids.txt'}: expected the names of two or more classes, a line each; {_LAYOUT}"
            )
        words = _words(folder / "words.txt")
        (x_train, y_train), (x_test, y_test) = (
            self._part(files, key, size, part)
            for files, key, size, part in (
                (_training(folder, classes), "train_samples", self.train_samples, TRAIN),
                (_validation(folder, classes), "test_samples", self.test_samples, TEST),
            )
        )
        names = tuple(words.get(one, one) for one in classes)
        return Arrays(
            x_train, y_train, x_test, y_test, class_names=names, scale=255.0, mean=self.mean, std=self.std
        )  # fmt: skip

    def _folder(self) -> Path:
        root = data_root(self.root)
        return root if root.name == _FOLDER else root / _FOLDER

    def _part(self, files: Files, key: str, size: int | None, part: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pixels and labels of a subset, drawn as for any data set."""
        paths, labels = files
        rows = subset_rows(self.kind, key, size, labels, part)
        chosen = range(len(paths)) if isinstance(rows, slice) else rows.tolist()
        side = self.image_size or _SIDE
        x = np.empty((len(chosen), 3, side, side), dtype=np.uint8)
        for place, row in enumerate(chosen):
            x[place] = read_image(paths[row], "rgb", (side, side))
        return x, labels[rows]


def _training(folder: Path, classes: list[str]) -> Files:
    paths: list[Path] = []
    labels: list[int] = []
    for number, name in enumerate(classes):
        inside = folder / "train" / name / "images"
        found = sorted(inside.glob("*.JPEG")) if inside.is_dir() else []
        if not found:
            raise DataError(f"{inside}: has no *.JPEG; {_LAYOUT}")
        paths += found
        labels += [number] * len(found)
    return paths, np.array(labels, dtype=np.int64)


def _validation(folder: Path, classes: list[str]) -> Files:
    listed = folder / "val" / "val_annotations.txt"
    numbers = {name: number for number, name in enumerate(classes)}
    paths: list[Path] = []
    labels: list[int] = []
    for line, text in enumerate(_lines(listed), 1):
        name, _, rest = text.partition("\t")
        label = rest.partition("\t")[0]
        if label not in numbers:
            raise DataError(
                f"{listed}:{line}: names the class {label!r}, which is none of the {len(classes)} in wnids.txt; "
                f"{_LAYOUT}"
            )
        paths.append(folder / "val" / "images" / name)
        labels.append(numbers[label])
    if not paths:
        raise DataError(f"{listed}: names no image; {_LAYOUT}")
    return paths, np.array(labels, dtype=np.int64)


def _lines(path: Path) -> list[str]:
    with opened(path, "a list of names", _LAYOUT, "text") as file:
        return [line for line in file.read().decode("utf-8").splitlines() if line.strip()]


def _words(path: Path) -> dict[str, str]:
    """Class -> what it is called, where the list is there."""
    if not os.path.isfile(path):
        return {}
    pairs = (line.partition("\t") for line in _lines(path))
    return {name.strip(): words.partition(",")[0].strip() for name, _, words in pairs}
