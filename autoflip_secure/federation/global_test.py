"""One evaluation of the global model on the test set, and what the record says of the last one and of the mask."""

from __future__ import annotations

import base64
import math
import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from autoflip_secure.records.final_model import ClassAccuracies, FinalMask, mask_places


class GlobalTest(NamedTuple):
    """One evaluation of one cell."""

    accuracy: float
    loss: float
    by_class: list[float]  # NaN: the test set has none of it; empty: not the last evaluation
    attack_success: float | None = None  # of the backdoor; None: there is none, or it could not be measured

    def classes(self, labels: Int[Tensor, " samples"]) -> ClassAccuracies | None:
        """As it is recorded; ``labels``: of the test set. None where it was not asked for."""
        if not self.by_class:
            return None
        samples = labels.cpu().bincount(minlength=len(self.by_class)).tolist()
        shares = [None if math.isnan(share) else share for share in self.by_class]
        return ClassAccuracies(samples=samples, accuracy=shares)


def final_mask(alive: Bool[Tensor, " prunable"]) -> FinalMask | None:
    """Which prunable weights the run leaves alive, packed; None: all of them are."""
    if bool(alive.all()):
        return None
    packed = np.packbits(alive.cpu().numpy()[mask_places(len(alive))])
    return FinalMask(prunable=len(alive), bits=base64.b64encode(zlib.compress(packed.tobytes(), 9)).decode("ascii"))
