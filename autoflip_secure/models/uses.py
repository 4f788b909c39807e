"""How often a forward pass uses each weight: once a sample in a fully connected layer, once a place in a filter."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.flops import count_pass
from autoflip_secure.models.layout import Layout

_known: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], dict[str, float]]] = WeakKeyDictionary()


def uses_of_weights(module: nn.Module, layout: Layout, sample: Shaped[Tensor, "batch ..."]) -> Mapping[str, float]:
    """Multiply-adds per weight and sample of each weight tensor, by name; 0 for tables that are only looked up.

    Counted once a module and shape, on the forward pass of a copy on the CPU.

    Args:
        module: left as it is.
        layout: of ``module``.
        sample: inputs; the first is used.

    Raises:
        UnsupportedModelError: the model has operations whose cost is not known.
    """
    known = _known.setdefault(module, {})
    shape = tuple(sample.shape[1:])
    if shape not in known:
        known[shape] = _counted(copy.deepcopy(module).cpu(), layout, sample[:1].cpu())
    return known[shape]


def _counted(net: nn.Module, layout: Layout, sample: Tensor) -> dict[str, float]:
    named, pair = dict(net.named_parameters()), torch.cat([sample, sample])
    weights = {segment.name: named[segment.name] for segment in layout if segment.kind == "weight"}
    found = count_pass(net, pair, weights, training=False)
    if found.problem is not None:
        raise UnsupportedModelError(found.problem)
    return {name: found.of_weights[name] / (2 * len(pair) * weight.numel()) for name, weight in weights.items()}
