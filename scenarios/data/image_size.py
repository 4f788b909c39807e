"""Images of another size, as torchvision's ``Resize`` makes them of images: Pillow's bilinear filter, antialiased."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

ImageSize = Annotated[int, Field(ge=4, le=1024)] | None
IMAGE_SIZE = "side in pixels that images are resized to (bilinear, antialiased); null = as they are"


def resized(images: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """(n, channels, height, width) bytes -> (n, channels, side, side) bytes."""
    if side is None or images.shape[2:] == (side, side):
        return images
    from PIL import Image

    found = np.empty((*images.shape[:2], side, side), dtype=np.uint8)
    for number, image in enumerate(images):
        for channel, plane in enumerate(image):  # each by itself, as Pillow does inside
            small = Image.fromarray(np.ascontiguousarray(plane)).resize((side, side), Image.Resampling.BILINEAR)
            found[number, channel] = np.asarray(small)
    return found
