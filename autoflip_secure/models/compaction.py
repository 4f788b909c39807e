"""Physical compaction: the same function by a smaller dense model, with the dead units really removed.

After closure (:meth:`~.chain.Chain.close`) nobody reads a dead unit, so row u of its layer, column
block u of the next layer and its entries in biases and normalisations can be cut out: equal outputs, in evaluation and
in training mode, with fewer multiply-adds on plain dense kernels. Weights masked inside living units stay, as zeros.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout


def compact(
    module: nn.Module,
    chain: Chain,
    layout: Layout,
    vector: Float[Tensor, " params"],
    mask: Bool[Tensor, " params"],
) -> nn.Module:
    """A copy of ``module`` with the weights ``vector``, masked by the closure of ``mask``, without its dead units.

    Which rows and columns a tensor keeps is decided in :func:`_narrowed` alone; a residual model would come with a
    structure that makes the layers of one residual stream share one set of kept units, and fill the same table.

    Raises:
        UnsupportedModelError: a hidden layer has no unit left, or the smaller model cannot run or gives other outputs
            (its forward pass counts on the old sizes, say by a reshape with a hard-coded width).
    """
    closed = chain.close(mask, layout)
    kept = chain.live_units(closed, layout)
    for layer, units in zip(chain.layers, kept, strict=True):
        if not units.any():
            raise UnsupportedModelError(
                f"the network is cut at {layer.name}: none of its {layer.units} units is left; prune less"
            )
    weights = torch.where(closed, vector, torch.zeros_like(vector))
    masked = copy.deepcopy(module)
    layout.load(masked, weights)
    smaller = copy.deepcopy(masked)
    for name, tensor in _narrowed(chain, layout, weights, kept).items():
        _replace(smaller, name, tensor)
    _check_outputs(masked, smaller, chain)
    return smaller


def same_outputs(given: Tensor, wanted: Tensor) -> bool:
    """Whether outputs are equal up to rounding, NaN included."""
    scale = float(wanted.nan_to_num().abs().max().clamp(min=1))
    return given.shape == wanted.shape and torch.allclose(given, wanted, rtol=0, atol=1e-4 * scale, equal_nan=True)


def _narrowed(chain: Chain, layout: Layout, weights: Tensor, kept: list[Tensor]) -> dict[str, Tensor]:
    """The tensors of the smaller model that differ in shape, by name."""
    tensors: dict[str, Tensor] = {}
    inputs = torch.ones(chain.layers[0].inputs, dtype=torch.bool, device=weights.device)
    for layer, block, units in zip(chain.layers, chain.blocks(weights, layout), kept, strict=True):
        shape = layout[layer.weight].shape
        narrow = block[units][:, inputs]
        tensors[layer.weight] = narrow.flatten(1) if len(shape) == 2 else narrow.reshape(*narrow.shape[:2], *shape[2:])
        for name in (*filter(None, (layer.bias,)), *layer.attached):
            tensors[name] = weights[layout[name].slice].view(layer.units, -1)[units].flatten()
        inputs = units
    return tensors


def _replace(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put ``tensor`` in the place of a parameter or buffer, and correct the sizes its owner remembers."""
    path, _, attribute = name.rpartition(".")
    owner = module.get_submodule(path)
    old = getattr(owner, attribute)
    new = tensor.to(old).clone()
    setattr(owner, attribute, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)
    if isinstance(owner, nn.Linear) and attribute == "weight":
        owner.out_features, owner.in_features = new.shape
    elif isinstance(owner, nn.Conv1d | nn.Conv2d) and attribute == "weight":
        owner.out_channels, owner.in_channels = new.shape[:2]
    elif isinstance(owner, nn.BatchNorm1d | nn.BatchNorm2d):
        owner.num_features = len(new)
    elif isinstance(owner, nn.PReLU):
        owner.num_parameters = len(new)


def _check_outputs(masked: nn.Module, smaller: nn.Module, chain: Chain) -> None:
    """A trial forward pass of both, in evaluation mode, on two samples of a fixed wave."""
    device = next(masked.parameters()).device
    count = 2 * int(torch.Size(chain.input_shape).numel())
    trial = torch.arange(count).sin().view(2, *chain.input_shape).to(device, chain.input_dtype)
    with torch.no_grad():
        wanted = masked.eval()(trial)
        try:
            given = copy.deepcopy(smaller).eval()(trial)
        except Exception as error:  # the user's own forward: it can fail in any way
            raise UnsupportedModelError(
                f"{type(masked).__name__} cannot run with fewer units ({error}); does its forward pass reshape to a"
                " fixed width? Use nn.Flatten or x.flatten(1)"
            ) from error
    if not same_outputs(given, wanted):
        raise UnsupportedModelError(
            f"{type(masked).__name__} gives other outputs with fewer units, shape {tuple(given.shape)} instead of"
            f" {tuple(wanted.shape)} for two samples; does its forward pass count on the old sizes? Use nn.Flatten"
        )
