"""Physical compaction: the same function by a smaller dense model, with the dead units really removed.

After closure (:meth:`~.units.Units.close`) nobody reads a dead unit, so its rows, its columns and its entries in biases
and normalisations can be cut out (:meth:`~.units.Units.narrowed`): equal outputs, in evaluation and in training mode,
with fewer multiply-adds on plain dense kernels. Weights masked inside living units stay, as zeros.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.memory_formats import channels_last, with_channels_last
from autoflip_secure.models.units import Units


def compact(
    module: nn.Module,
    units: Units,
    layout: Layout,
    vector: Float[Tensor, " params"],
    mask: Bool[Tensor, " params"],
) -> nn.Module:
    """A copy of ``module`` with the weights ``vector``, masked by the closure of ``mask``, without its dead units.

    Where other branches lead past a group that has no unit left, one dead unit of it stays, with all its weights zero.

    Raises:
        UnsupportedModelError: a hidden layer of a chain has no unit left, or the smaller model cannot run or gives
            other outputs (its forward pass counts on the old sizes, say by a reshape with a hard-coded width).
    """
    closed = units.close(mask, layout)
    kept = units.live_units(closed, layout)
    for group, live in zip(units.groups, kept, strict=True):
        if not live.any():
            if not units.branches:
                raise UnsupportedModelError(
                    f"the network is cut at {group.name}: none of its {group.units} units is left; prune less"
                )
            live[0] = True
    weights = torch.where(closed, vector, torch.zeros_like(vector))
    masked = copy.deepcopy(module)
    layout.load(masked, weights)
    smaller = copy.deepcopy(masked)
    for name, tensor in units.narrowed(weights, kept, layout).items():
        _replace(smaller, name, tensor)
    if channels_last(module):
        smaller = with_channels_last(smaller)
    _check_outputs(masked, smaller, units)
    return smaller


def same_outputs(given: Tensor, wanted: Tensor) -> bool:
    """Whether outputs are equal up to rounding, NaN included."""
    scale = float(wanted.nan_to_num().abs().max().clamp(min=1))
    return given.shape == wanted.shape and torch.allclose(given, wanted, rtol=0, atol=1e-4 * scale, equal_nan=True)


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
        if owner.groups > 1:  # whole groups go
            owner.groups = owner.groups * len(new) // len(old)
        owner.out_channels, owner.in_channels = len(new), owner.groups * new.shape[1]
    elif isinstance(owner, nn.GroupNorm):
        owner.num_groups = owner.num_groups * len(new) // owner.num_channels  # whole groups, again
        owner.num_channels = len(new)
    elif isinstance(owner, nn.BatchNorm1d | nn.BatchNorm2d):
        owner.num_features = len(new)
    elif isinstance(owner, nn.PReLU):
        owner.num_parameters = len(new)


def _check_outputs(masked: nn.Module, smaller: nn.Module, units: Units) -> None:
    """A trial forward pass of both, in evaluation mode, on two samples of a fixed wave."""
    device = next(masked.parameters()).device
    count = 2 * int(torch.Size(units.input_shape).numel())
    trial = torch.arange(count).sin().view(2, *units.input_shape).to(device, units.input_dtype)
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
