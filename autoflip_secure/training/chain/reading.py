"""Reads a module as a chain of operations that have a forward and a backward pass here, or says that it is none."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.chain_reading import Step, operations
from autoflip_secure.training.chain.images import ChannelsLast, Convolution, FlattenImages, Pool, Sides
from autoflip_secure.training.chain.layers import Activation, Affine, Dense, Flatten, Operation

Part = Operation | Affine

LARGE = 60_000
"""Numbers in the patches of one sample from which on a product of matrices loses to the library's convolutions: 0.8 to
0.9 of their speed at 74,000 (``cnn6``, width 8) and 157,000 (``mcmahan_cnn``), 1.25 times at 28,000 and 56,000."""

_ACTIVATIONS: dict[Any, str] = {
    **{nn.ReLU: "relu", F.relu: "relu", torch.relu: "relu", torch.relu_: "relu"},
    **{nn.Tanh: "tanh", F.tanh: "tanh", torch.tanh: "tanh"},
    **{nn.Sigmoid: "sigmoid", F.sigmoid: "sigmoid", torch.sigmoid: "sigmoid"},
}
_METHODS = {"relu": "relu", "relu_": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}
_RESHAPES = {nn.Flatten, torch.flatten, "flatten", "view", "reshape"}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class NoChainError(Exception):
    """The module is no chain of what is known here."""


def read(net: nn.Module, names: list[str], sample: Tensor) -> list[Part]:
    """The operations from input to scores.

    Args:
        net: in the mode in which it is used.
        names: of the tensors of the layout, in order.
        sample: one or more inputs, batch dimension first.

    Raises:
        NoChainError: something in it is not known, may do something else than its type says, or is used twice.
    """
    for layer in net.modules():
        if any(getattr(layer, hooks) for hooks in HOOKS) or "forward" in vars(layer):
            raise NoChainError(f"{type(layer).__name__} has hooks or a forward of its own")
    if type(net).__call__ is not nn.Module.__call__:
        raise NoChainError(f"{type(net).__name__} is called in a way of its own")
    if not sample.is_floating_point():
        raise NoChainError(f"inputs are {sample.dtype}")
    try:
        path = operations(net, sample, training=net.training)
    except UnsupportedModelError as error:
        raise NoChainError(str(error)) from error
    found: list[Part] = []
    for step in path:
        _read(step, names, found)
    found = _pools_first(found)
    places = [place for part in found if isinstance(part, Affine) for place in (part.weight, part.bias)]
    if len(set(places) - {None}) != len([place for place in places if place is not None]) or not places:
        raise NoChainError("a tensor is used twice, or none is")
    return found


def _read(step: Step, names: list[str], found: list[Part]) -> None:
    """Append what the step does."""
    what: Any = type(step.module) if step.module is not None else step.node.target
    images = len(step.before) == 4
    last = found[-1] if found else None
    raw = all(isinstance(part, Activation | ChannelsLast) for part in found)  # the inputs, in their own order
    if images and what in (nn.Conv2d, nn.MaxPool2d) and raw and ChannelsLast() not in found:
        found.append(ChannelsLast())
    if what is nn.Linear and len(step.before) == 2:
        found.append(Dense(*_places(step, names)))
    elif what is nn.Conv2d and images:
        found.append(_convolution(step, names))
    elif what is nn.MaxPool2d and images:
        if (window := _window(step)) != (1, 1):
            found.append(Pool(window, apart=False))
    elif what in _ACTIVATIONS or (step.node.op == "call_method" and what in _METHODS):
        kind = _ACTIVATIONS.get(what) or _METHODS[what]
        found.append(Activation(kind, isinstance(last, Affine) or (kind == "relu" and isinstance(last, Pool))))
    elif what in _RESHAPES and step.after == (2, prod(step.before[1:])):
        if len(step.before) > 2:
            found.append(Flatten() if raw and ChannelsLast() not in found else FlattenImages())
    elif what is not nn.Identity:
        raise NoChainError(f"{step} is not known")


def _places(step: Step, names: list[str]) -> tuple[int, int | None]:
    assert step.module is not None
    weight, bias = (f"{step.node.target}.{key}" for key in ("weight", "bias"))
    if weight not in names or (step.module.bias is not None and bias not in names):
        raise NoChainError(f"{step} shares its tensors")
    return names.index(weight), None if step.module.bias is None else names.index(bias)


def _pair(value: Any) -> Sides:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _convolution(step: Step, names: list[str]) -> Convolution:
    layer = step.module
    assert isinstance(layer, nn.Conv2d)
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise NoChainError(f"{step} has groups, or padding by something else than a number of zeros")
    _, channels, high, wide = step.before
    kernel, stride, padding, dilation = (
        _pair(each) for each in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    found = Convolution(*_places(step, names), (high, wide, channels), kernel, stride, padding, dilation)
    if prod(found.sides) * prod(kernel) * channels > LARGE:
        raise NoChainError(f"{step} has so many patches that other ways are quicker")
    return found


def _window(step: Step) -> Sides:
    layer = step.module
    assert isinstance(layer, nn.MaxPool2d)
    window = _pair(layer.kernel_size)
    plain = _pair(layer.stride) == window and _pair(layer.padding) == (0, 0) and _pair(layer.dilation) == (1, 1)
    whole = all(side % each == 0 for side, each in zip(step.before[2:], window, strict=True))
    if not plain or not whole or layer.return_indices:
        raise NoChainError(f"{step} has windows that overlap, or do not fill the image")
    return window


def _pools_first(parts: list[Part]) -> list[Part]:
    """A ReLU goes behind the pool after it, which changes nothing; a convolution before a pool gets its window."""
    parts = list(parts)
    for place in range(len(parts) - 1):
        one, other = parts[place : place + 2]
        if isinstance(one, Activation) and one.kind == "relu" and isinstance(other, Pool):
            parts[place : place + 2] = [other, Activation("relu", in_place=True)]
    for place in range(len(parts) - 1):
        one, other = parts[place : place + 2]
        if isinstance(one, Convolution) and isinstance(other, Pool):
            parts[place : place + 2] = [replace(one, window=other.window), replace(other, apart=True)]
    return parts
