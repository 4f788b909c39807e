r"""Masks of the clients' own at a constant density, drawn at random by ERK: where sparse-to-sparse training begins.

.. math:: d_l = \min\Big(1, \varepsilon\, \frac{\sum_i s_{li}}{\prod_i s_{li}}\Big), \qquad
          \sum_l d_l n_l = d \sum_l n_l

over hidden tensors l of shape s with n weights: small tensors stay denser (Evci et al. 2020, Erdős-Rényi-Kernel). The
tensors that would be denser than 1 are whole, and epsilon is solved again for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import ClientPruneView, OwnMask, Pruner, PruneView


def erk(shapes: Mapping[str, Sequence[int]], density: float) -> dict[str, float]:
    """The density of each tensor, by name, so that all together have ``density`` in [0, 1]."""
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    share = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    whole = set[str]()
    while True:
        others = [name for name in shapes if name not in whole]
        left = density * sum(sizes.values()) - sum(sizes[name] for name in whole)
        total = sum(share[name] * sizes[name] for name in others)
        scale = left / total if total else 0.0
        over = {name for name in others if scale * share[name] > 1}
        if not over:
            return {name: 1.0 if name in whole else scale * share[name] for name in shapes}
        whole |= over


class OwnErk(Pruner):
    """Every client draws a sparse mask of its own, dense by ERK, and keeps it; a local rule may move it."""

    kind: Literal["own_erk"] = "own_erk"
    source: ClassVar[str] = "Evci et al. 2020 (ERK); a mask per client: Huang et al. 2022 (FedSpa), Dai et al. 2022"
    own: ClassVar[bool] = True
    density: Annotated[float, Field(gt=0, le=1, description="live hidden weights / hidden weights, of each client")] = (
        0.5
    )

    def mask(self, view: PruneView) -> Tensor:
        """The mask that all share stays as it is."""
        return view.mask

    def client_mask(self, view: ClientPruneView) -> OwnMask:
        """Drawn by the client at (CLIENT_MASK, round, client, tensor) while it still holds everything."""
        hidden = view.layout.hidden
        if not bool(view.mask[view.layout.prunable.to(view.mask.device)].all()):
            return OwnMask(view.mask, view.weights)
        densities, mask = erk({segment.name: segment.shape for segment in hidden}, self.density), view.mask.clone()
        for number, segment in enumerate(hidden):
            size = segment.stop - segment.start
            order = torch.randperm(size, generator=view.generator(number))
            mask[segment.start + order[round(densities[segment.name] * size) :].to(mask.device)] = False
        return OwnMask(mask, view.weights)
