"""Folders of images, a folder a class, as torchvision's ImageFolder finds them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.arrays import HeldOutSource, judged
from autoflip_secure.scenarios.data.base import Arrays
from autoflip_secure.scenarios.data.files import absolute, opened

_MOST_BYTES = 2**33  # of pixels; four times that as float32
Side = Annotated[int, Field(ge=1, le=4096)]


class ImageFolder(HeldOutSource):
    """Image files, a folder a class, under train and test, or in one place with a held-out share."""

    kind: Literal["image_folder"] = "image_folder"
    source: ClassVar[str] = "your own data"
    path: Path = Field(
        description="folder with train/CLASS/*.png (or jpg, …) and test/CLASS/*.png, or with CLASS/*.png"
    )
    size: tuple[Side, Side] | None = Field(
        default=None, description="[height, width] that every image is resized to; null = they have one size already"
    )
    colour: Literal["rgb", "grey"] = Field(default="rgb", description="three channels, or one")

    def places(self) -> tuple[str, ...]:
        """The folder as it is meant now."""
        return (str(absolute(self.path)),)

    def read(self) -> Arrays:
        """All images, in the order of class and file name."""
        folder = absolute(self.path)
        parts = [folder / part for part in ("train", "test") if (folder / part).is_dir()]
        if len(parts) == 1:
            raise DataError(f"{folder}: has {parts[0].name}, but no train and test; give both, or folders of classes")
        files, names = _files(parts[0] if parts else folder)
        x, y = self._pixels([path for path, _ in files]), np.array([number for _, number in files], dtype=np.int64)
        if parts:
            tested, other = _files(parts[1])
            strange = sorted(set(other) - set(names))
            if strange:
                raise DataError(
                    f"{parts[1] / strange[0]}: is a class that train does not have; remove it, or add it there"
                )
            x_test = self._pixels([path for path, _ in tested])
            y_test = np.array([names.index(other[number]) for _, number in tested], dtype=np.int64)
        else:
            chosen = self.held_out(folder, y)
            x, x_test, y, y_test = x[~chosen], x[chosen], y[~chosen], y[chosen]
        members: dict[str, NDArray[Any]] = {
            "x_train": x,
            "y_train": y,
            "x_test": x_test,
            "y_test": y_test,
            "class_names": np.array(names),
        }
        return judged(folder, members, "nchw")

    def _pixels(self, paths: list[Path]) -> NDArray[np.uint8]:
        """(n, channels, height, width) bytes."""
        found: list[NDArray[np.uint8]] = []
        for path in paths:
            image = read_image(path, self.colour, self.size)
            if found and image.shape != found[0].shape:
                raise DataError(
                    f"{path}: is {image.shape[1]} x {image.shape[2]} pixels, {paths[0].name} is {found[0].shape[1]} x "
                    f"{found[0].shape[2]}; set `size: [height, width]`"
                )
            found.append(image)
            if image.size * len(paths) > _MOST_BYTES:
                raise DataError(
                    f"{path.parent}: {len(paths):,} images of {image.shape[1]} x {image.shape[2]} are "
                    f"{image.size * len(paths):,} bytes, and at most {_MOST_BYTES:,} are held; set a smaller `size`"
                )
        return np.stack(found)


def read_image(path: Path, colour: str, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """One image as bytes (channels, height, width); resized with antialiasing when ``size`` is given.

    Raises:
        DataError: it cannot be read, is not an image, or has so many pixels that it must be a trap.
    """
    from PIL import Image, UnidentifiedImageError

    kinds = ("png", "jpeg", *(("text",) if path.suffix.lower() in (".ppm", ".pgm") else ()))  # those may be text
    with opened(path, "an image", "replace it", *kinds) as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image: Any = Image.open(file).convert("L" if colour == "grey" else "RGB")
        except UnidentifiedImageError:
            raise ValueError("no format that Pillow knows") from None
        if size is not None:
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = np.array(image, dtype=np.uint8)
    return pixels[None] if colour == "grey" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _files(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """Every image with the number of its class, and the classes' names."""
    from torchvision.datasets import folder as layout

    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder; give one with a folder of images a class")
    try:
        names, numbers = layout.find_classes(folder)
        found = layout.make_dataset(folder, numbers, layout.IMG_EXTENSIONS)
    except (FileNotFoundError, OSError) as error:
        raise DataError(f"{folder}: {error}; expected a folder of images a class") from error
    return [(Path(path), number) for path, number in found], names
