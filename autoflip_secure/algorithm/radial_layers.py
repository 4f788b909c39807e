"""Where radial agreement looks (:mod:`.radial_agreement`): layers that count, and coordinates that nobody moves."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.interfaces import Groups, Part, RowReader
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import PerMask, facts


def low_energy(energy: Tensor, live: Bool[Tensor, " params"], share: float) -> Bool[Tensor, " params"]:
    """The ``share`` of the live hidden weights with the lowest D_0: there an honest client hardly moves."""
    candidates = live.nonzero().squeeze(1)
    chosen = torch.zeros_like(live)
    chosen[candidates[energy[candidates].argsort(stable=True)[: max(1, int(share * len(candidates)))]]] = True
    return chosen


def _lowest(mask: Tensor, energy: Tensor, layout: Layout, share: float) -> Bool[Tensor, " params"]:
    live = facts(mask, layout).live
    hidden = live & layout.prunable.to(mask.device)
    return low_energy(energy, hidden if bool(hidden.any()) else live, share)


low_set = PerMask(_lowest)


class Layers:
    """The parts that the numbers are read of: each layer that counts, inside and outside the low set.

    Layers followed by a normalisation do not count: there <grad, w> = 0 and the cosine is only weight decay.
    """

    def __init__(self, layout: Layout, live: Bool[Tensor, " params"], low: Bool[Tensor, " params"]) -> None:
        self._slices = [slice(group[0].start, group[-1].stop) for group in layout.layers if not group[0].normalised]
        self._live, self._low = live, low
        self.groups = Groups(self._places, 2 * len(self._slices) + 2)

    def _places(self) -> Int[Tensor, " params"]:
        """Group 2l: layer l outside the low set; 2l + 1: inside it; last: what belongs to no layer that counts."""
        found = torch.full(self._live.shape, self.groups.count - 2, dtype=torch.int64, device=self._live.device)
        for number, where in enumerate(self._slices):
            found[where] = 2 * number
        return torch.where(self._live, found + self._low.long(), -1)

    @property
    def low(self) -> Part:
        """The low set."""
        return Part(self.groups, slice(1, self.groups.count, 2), self._low)

    @property
    def each(self) -> list[Part]:
        """Every layer that counts, weight and bias together; where none does (say, nothing but normalisations is
        trained), the whole update."""
        found = [Part(self.groups, slice(2 * n, 2 * n + 2), where) for n, where in enumerate(self._slices)]
        return found or [self.groups.whole]


def radial_cosine(reader: RowReader, weights: Tensor, layers: Layers) -> Float[Tensor, " clients"]:
    """R_k: mean over layers of the cosine with the current weights."""
    return torch.stack([reader.cosines(weights, part) for part in layers.each]).mean(0)
