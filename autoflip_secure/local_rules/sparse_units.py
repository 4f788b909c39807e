r"""SpaFL's local training: a loss that raises thresholds, gradients of bounded size, and no layer without units.

.. math::
    L + a \sum_u e^{-\tau_u}, \qquad g \leftarrow g\, \min\Big(1, \frac{c}{\|g\|}\Big), \qquad
    \tau_u \leftarrow 0 \text{ in a layer of which at most 1 % of the units are over their thresholds}

with g the gradient of everything that a client trains. It is about thresholds, so it goes with a pruner that has
clients train them (``spafl``).

**Evidence**: read in the authors' code (news-vt/SpaFL_NeruIPS_2024, without a licence: described, not copied). a is
0.002 for Fashion-MNIST, 1.5e-4 for CIFAR-10 and 7e-4 for CIFAR-100; c is off for Fashion-MNIST, 3 and 15 for the
others. Theirs sets a layer back when it is next used, this one with the step that left it so; and in two of their
three programs a counts 0.7 % in the very first round, which is not offered.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import LocalRule, LocalView, WorksOn, threshold_pairs
from autoflip_secure.interfaces.trained_thresholds import unit_sizes

_FEWEST = 0.01  # share of a layer's units, theirs
_TINY = 1e-6  # as in torch.nn.utils.clip_grad_norm_


class SparseUnits(LocalRule):
    """SpaFL: a loss raises the clients' thresholds; gradients may be clipped, and a layer that dies begins anew."""

    kind: Literal["sparse_units"] = "sparse_units"
    source: ClassVar[str] = "Kim et al. 2024 (SpaFL), NeurIPS; defaults as in the authors' code for Fashion-MNIST"
    works_on: ClassVar[WorksOn] = "thresholds"
    strength: Annotated[float, Field(ge=0, le=1e6, description="a, weight of the loss that raises thresholds")] = 0.002
    clip: Annotated[
        float | None, Field(gt=0, le=1e6, description="largest L2 norm of a mini-batch gradient; null = any")
    ] = None

    @property
    def hooks(self) -> frozenset[str]:
        """Those that are needed."""
        wanted = {"penalty": self.strength > 0, "gradient": self.clip is not None, "step": True}
        return frozenset(hook for hook, asked in wanted.items() if asked)

    def penalty(self, view: LocalView) -> Float[Tensor, " models"]:
        """a times the sum of exp(-tau)."""
        parts = [view.weights[bias].neg().exp().sum(1) for _, bias in threshold_pairs(view.segments)]
        return self.strength * torch.stack(parts).sum(0)

    def gradient(self, view: LocalView, gradients: list[Tensor]) -> list[Tensor]:
        """Clipped, all tensors of a model together."""
        assert self.clip is not None
        norms = torch.stack([gradient.reshape(len(gradient), -1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        scale = (self.clip / (norms + _TINY)).clamp(max=1)
        return [gradient * scale.reshape(-1, *[1] * (gradient.dim() - 1)) for gradient in gradients]

    def step(self, view: LocalView, steps: list[Tensor]) -> list[Tensor]:
        """Thresholds of a layer go to 0 where the step would leave next to none of its units."""
        for weight, bias in threshold_pairs(view.segments):
            sizes = unit_sizes(view.segments[weight], view.weights[weight] + steps[weight])
            thresholds = view.weights[bias]
            live = (sizes > thresholds + steps[bias]).double().mean(1, keepdim=True)
            steps[bias] = torch.where(live <= _FEWEST, -thresholds, steps[bias])
        return steps
