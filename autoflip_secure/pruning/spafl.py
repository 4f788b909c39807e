r"""SpaFL: clients keep their weights, and agree on a threshold for each unit, which is all that travels.

.. math::
    w_u' = w_u\, [\overline{|w_u|} > \tau_u], \qquad
    \frac{\partial L}{\partial \tau_u} = -\sum_{j \in u} g_j w_j, \quad
    \frac{\partial L}{\partial w_j} = g_j m_u + \frac{\mathrm{sign}(w_j)}{n_u} \sum_{i \in u} g_i w_i, \\
    \tau \leftarrow \frac1K \sum_k \tau_k, \qquad
    w_{kj} \leftarrow w_{kj} - \mathrm{sign}\Big(\sum_{i \in u} w_{ki}\Big) \frac{\Delta\tau_u}{f_l}
    \quad \text{before client k trains again}

with g the gradient at the masked weights, n_u the weights of a unit, f_l its inputs in dense layers and the area of the
filter in convolutions, and Delta tau what the global threshold has moved by since the client last took part. All layers
are masked, first and last included; thresholds begin at 0, where every unit lives. What raises them is the loss of the
local rule ``sparse_units``.

**Evidence**: read in the authors' code (news-vt/SpaFL_NeruIPS_2024, without a licence: described, not copied). The
estimator is the identity in their program for Fashion-MNIST; **in those for CIFAR-10 and CIFAR-100 it passes a gradient
only where a unit is more than 1 away from its threshold**, which initial weights never are, so that thresholds learn
nothing of the data and rise by the loss alone: ``estimator: beyond_one``. Their setting: 100 clients, 10 a round, 500
rounds, SGD with momentum 0.9 and 0.001 (Fashion-MNIST) or 0.01, batches of 64 or 16, 5 epochs.

Ours, and so marked: theirs sends every client the new thresholds in every round, to move its weights by; here a client
is sent them when it takes part, and moves by the sum of the steps that it missed, once. It is tested as it would begin
its next round, with the newest thresholds; theirs tests each under those that it trained last. Layers compute without
bias, as theirs do: see :mod:`autoflip_secure.interfaces.trained_thresholds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import ClientPruneView, OwnMask, TrainedThresholds, straight_through, threshold_pairs
from autoflip_secure.interfaces.trained_mask import coordinates
from autoflip_secure.models.layout import Layout

_TRAINED, _SEEN = "trained", "seen"


class SpaFL(TrainedThresholds):
    """SpaFL: weights stay with their clients; one trained threshold a unit is averaged, and units below it go."""

    kind: Literal["spafl"] = "spafl"
    source: ClassVar[str] = "Kim et al. 2024 (SpaFL), NeurIPS, arXiv 2406.00431; the authors' code was read"
    client_rows: ClassVar[Mapping[str, Literal["bits", "numbers"]]] = {_TRAINED: "numbers", _SEEN: "numbers"}
    kept: ClassVar[str] = _TRAINED
    estimator: Literal["identity", "beyond_one"] = Field(
        default="identity",
        description="gradient of the step function: 1 (theirs for Fashion-MNIST), or 1 only where a unit is more than "
        "1 away from its threshold (theirs for CIFAR)",
    )
    follow: bool = Field(
        default=True, description="clients move their weights by what the global thresholds moved; false: they do not"
    )

    def unit_mask(self, excess: Float[Tensor, "models units"]) -> Float[Tensor, "models units"]:
        """[mean |w| > tau]."""
        passed = excess if self.estimator == "identity" else excess * (excess.detach().abs() > 1)
        return straight_through((excess > 0).to(excess), passed)

    def client_mask(self, view: ClientPruneView) -> OwnMask:
        """Everything is held; training begins from the client's weights, moved, and the newest thresholds."""
        own, seen = view.states[_TRAINED], view.states[_SEEN]
        if not bool(own.any()):  # it has not trained yet
            own, seen = view.initial, torch.zeros_like(seen)
        shared = coordinates(self, view.layout, "shared").to(own.device)
        if self.follow:
            own = _moved(own, torch.where(shared, view.weights - seen, 0.0), view.layout)
        start = torch.where(shared, view.weights, own)
        return OwnMask(view.mask, start, {_TRAINED: own, _SEEN: torch.where(shared, view.weights, 0.0)})


def _moved(weights: Tensor, thresholds: Tensor, layout: Layout) -> Float[Tensor, " params"]:
    """``weights`` after the global thresholds moved by ``thresholds``, which are at their places."""
    moved, segments = weights.clone(), tuple(layout)
    for weight, bias in threshold_pairs(segments):
        segment = segments[weight]
        own = weights[segment.slice].view(segment.shape[0], -1)
        fan = prod(segment.shape[2:] if len(segment.shape) > 2 else segment.shape[1:])
        step = own.sum(1).sign() * thresholds[segments[bias].slice] / fan
        moved[segment.slice] = (own - step[:, None]).reshape(-1)
    return moved
