r"""Gradient decoding: which samples was this update made of?

To first order an update is minus the learning rate times a sum of the gradients :math:`g_i` of the samples that it was
trained on, so what is left is a linear decoding problem (ridge regression, in its dual form). With the rows of
:math:`G` the gradients of everybody who may be in, at the weights from which training began,

.. math:: b = -(G G^\top + \lambda I)^{-1} G \Delta

A large :math:`\lambda` is the matched filter, which is best where noise drowns what the samples do to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call

from autoflip_secure.models.layout import Layout
from autoflip_secure.training.base import working_copy

LARGEST = 50_000_000
"""Numbers in G; above, decoding is not tried."""
CLEAR, NOISY = 0.1, 10.0
"""Ridge for updates without and with noise, in squared gradient norms; tuned on seeds 0 to 9."""
_CHUNK = 64

Gradient = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(weights, input, label) -> gradient."""


def sample_gradients(
    module: nn.Module,
    layout: Layout,
    weights: Float[Tensor, " params"],
    live: Bool[Tensor, " params"],
    x: Shaped[Tensor, "samples ..."],
    y: Int[Tensor, " samples"],
    clip: float | None = None,
) -> Float[Tensor, "samples params"]:
    """Gradient of each sample's loss, in evaluation mode: clipped, in units of ``clip``; without one of length 1."""
    net = working_copy(module, x.device).eval().requires_grad_(False)

    buffers = {segment.name for segment in layout if segment.kind == "buffer"}  # running statistics: as they are

    def loss(vector: Tensor, one: Tensor, label: Tensor) -> Tensor:
        tensors = {n: t.detach() if n in buffers else t for n, t in layout.tensors(vector).items()}
        scores: Tensor = functional_call(net, tensors, (one[None],))
        return nn.functional.cross_entropy(scores, label[None])

    single: Gradient = torch.func.grad(loss)
    here = weights.to(x.device)
    parts = list(_stacked(single, here, x, y))
    rows = torch.cat(parts) * (live & layout.trained.to(live.device)).to(x.device)
    norms = rows.norm(dim=1, keepdim=True)
    scaled: Tensor = rows / norms.clamp_min(1e-12 if clip is None else clip)
    return scaled


def _stacked(single: Gradient, weights: Tensor, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Many samples at once where the model allows it, else one by one."""
    together: Gradient = torch.func.vmap(single, in_dims=(None, 0, 0))
    try:
        together(weights, x[:2], y[:2])
        stacks = True
    except Exception:  # a model of the user's own: anything can come out
        stacks = False
    for inputs, labels in zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True):
        if stacks:
            yield together(weights, inputs, labels)
        else:
            yield torch.stack([single(weights, one, label) for one, label in zip(inputs, labels, strict=True)])


def decode(
    updates: Float[Tensor, "updates params"], gradients: Float[Tensor, "samples params"], ridge: float
) -> Float[Tensor, "updates samples"]:
    """How much of each sample is in each update."""
    products = (gradients @ gradients.T).double()
    seen = -(gradients @ updates.T).double()
    shifted = products + ridge * torch.eye(len(products), dtype=torch.float64, device=products.device)
    found: Tensor = torch.linalg.solve(shifted, seen).T.to(updates.dtype)
    return found
