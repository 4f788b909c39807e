"""A module as a program on a stack of models: its forward, its loss, and what it costs and trains.

Nothing here knows a layer type; what is needed is found out by running the module.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from autoflip_secure.training.base import named_tensors
from autoflip_secure.training.convolutions import Convolving, same_calls

SLOW = "performance drop"
"""What ``vmap`` warns of where it has no rule for an operation and goes through the stack one model at a time."""

StackedForward = Callable[[list[Tensor], Tensor], Tensor]
Differentiate = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, list[Tensor]]]
"""(inputs, labels, weights) -> losses (models, batch), a gradient of their weighted sum for each leaf."""


def stacked_forward(net: nn.Module, names: list[str]) -> StackedForward:
    """``net`` for many models: (leaves (models, *shape) in the order of ``names``, x (models, batch, *features))."""
    return vmap(single_forward(net, names, Convolving(same_calls, (1, 2, 3))))


def single_forward(net: nn.Module, names: list[str], convolving: Convolving) -> StackedForward:
    """``net`` with tensors given in the order of ``names``: (leaves, x (batch, *features)).

    ``convolving`` does the convolutions; where the first forward has none it is not asked again.

    The tensors are put in place by hand, for all owners of a shared one, and taken out again: half the overhead of
    ``torch.func.functional_call``, which matters for small stacks. ``net`` must not be used by anybody else meanwhile.
    """
    named = named_tensors(net)
    places: list[list[tuple[dict[str, Any], str]]] = [[] for _ in names]
    which = {id(named[name]): number for number, name in enumerate(names)}
    for owner in net.modules():
        for slots in (owner._parameters, owner._buffers):
            for key, tensor in slots.items():
                if id(tensor) in which:
                    places[which[id(tensor)]].append((slots, key))
    originals = [named[name] for name in names]

    def put(tensors: list[Tensor]) -> None:
        for tensor, owners in zip(tensors, places, strict=True):
            for slots, key in owners:
                slots[key] = tensor

    tried = False

    def forward(tensors: list[Tensor], inputs: Tensor) -> Tensor:
        nonlocal tried
        put(tensors)
        try:
            with convolving if convolving.found or not tried else nullcontext():
                scores: Tensor = net(inputs)
            tried = True
        finally:
            put(originals)
        return scores

    return forward


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every sample: scores (..., classes), labels (...) -> (...).

    ``F.cross_entropy`` in parts. For rows as short as ten classes torch's fused softmax is 2.7 times slower than these.
    """
    shifted = scores - scores.detach().amax(-1, keepdim=True)
    return shifted.exp().sum(-1).log() - shifted.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def kept_floats(net: nn.Module, sample: Tensor) -> int:
    """Floats that the forward of one ``sample`` (1, *features) keeps for its backward, weights apart; at least 1."""
    own = {tensor.data_ptr() for tensor in net.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        scores = net(sample)
    del scores
    return max(1, sum(kept.values()))


def gradient_orders(
    forward: StackedForward, net: nn.Module, names: list[str], sample: Tensor
) -> list[list[int] | None]:
    """In which order of dimensions the gradient of each stacked tensor lies in memory; None: it gets no gradient.

    The gradient of a linear layer's weight comes out transposed; a leaf that lies as its gradient does is stepped twice
    as fast as one across it. Frozen and unused parameters get none and, as in ``torch.optim``, no weight decay either.
    """
    named = named_tensors(net)
    stack = [torch.stack([named[name].detach()] * 2) for name in names]
    leaves = [leaf.requires_grad_() for name, leaf in zip(names, stack, strict=True) if named[name].requires_grad]
    with torch.enable_grad():
        scores = forward(stack, torch.stack([sample.expand(2, *sample.shape[1:])] * 2))
    grads = iter(torch.autograd.grad(scores.sum(), leaves, allow_unused=True))
    found = [next(grads) if named[name].requires_grad else None for name in names]
    return [None if grad is None else order_of(grad) for grad in found]


def order_of(tensor: Tensor) -> list[int]:
    """Its dimensions as they lie in memory, the outermost first."""
    strides = tensor.stride()
    return sorted(range(tensor.dim()), key=lambda dim: (-strides[dim], dim))


def lay(tensor: Tensor, order: list[int] | None) -> Tensor:
    """A copy of ``tensor`` whose dimensions lie in memory in ``order``, outermost first (None: as usual)."""
    order = order or list(range(tensor.dim()))
    back = [order.index(dim) for dim in range(tensor.dim())]
    return tensor.permute(order).clone(memory_format=torch.contiguous_format).permute(back)
