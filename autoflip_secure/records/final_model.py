"""What records say of the model that a run ends with: its accuracy class by class, and which weights are alive."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

MASK_PLACES = 65_536
"""Prunable weights that a record has the state of; of a larger model a fixed random choice of so many."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class ClassAccuracies(_Record):
    """The global model on the test set after the last round, class by class; whatever ``evaluation`` is about."""

    samples: list[int]  # of each class in the test set
    accuracy: list[float | None]  # share that is classified rightly, in [0, 1]; None: the test set has none of it

    @property
    def worst(self) -> float | None:
        """The lowest of them: 0 where a class is never recognised; None: the test set is empty."""
        return min((share for share in self.accuracy if share is not None), default=None)


class FinalMask(_Record):
    """Which prunable weights are alive after the last round, in the order of the layout."""

    prunable: Annotated[int, Field(ge=1)]  # weights that may be pruned
    bits: str  # base64 of zlib of numpy.packbits of the states at :func:`mask_places`

    def alive(self) -> np.ndarray:
        """Bool, at :func:`mask_places`.

        Raises:
            ValueError: ``bits`` are damaged.
        """
        places = min(self.prunable, MASK_PLACES)
        size = -(-places // 8)
        try:
            packed = zlib.decompressobj().decompress(base64.b64decode(self.bits, validate=True), size + 1)
        except (binascii.Error, zlib.error) as error:
            raise ValueError(f"the bits of a final mask cannot be read: {error}") from error
        if len(packed) != size:
            raise ValueError(f"the bits of a final mask of {places} weights should be {size} bytes, not {len(packed)}")
        return np.unpackbits(np.frombuffer(packed, np.uint8), count=places).astype(bool)


def mask_places(prunable: int) -> np.ndarray:
    """Indices of the weights whose state is recorded, ascending: all, or the same random choice for every run."""
    if prunable <= MASK_PLACES:
        return np.arange(prunable)
    return np.sort(np.random.default_rng(0).permutation(prunable)[:MASK_PLACES])
