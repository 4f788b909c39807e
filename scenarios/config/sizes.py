"""Sizes that pass every bound and cannot be: named before they are made, for a system may end who asks for too much."""

from __future__ import annotations

import torch

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.runtime.memory import machine_memory
from autoflip_secure.scenarios.models.chains import Model
from autoflip_secure.terminal.visible import short

_COPIES = 4  # that training one client holds at least: weights, what it began with, gradient, update
_BYTES = 4  # of a float32


def refuse_huge(model: Model, input_shape: tuple[int, ...], num_classes: int) -> None:
    """Count the weights of a model of ours without making them. One of the user's own is made as it is.

    Raises:
        UnsupportedModelError: training one client would need more memory than this machine has.
    """
    memory = machine_memory()
    if model.foreign or memory is None:
        return
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        weights = sum(tensor.numel() for tensor in model.make(input_shape, num_classes).parameters())
    if weights * _BYTES * _COPIES > memory:
        said = short(", ".join(f"{key} = {value}" for key, value in model.model_dump(mode="json").items()))
        raise UnsupportedModelError(
            f"model ({said}) has {weights:,} weights: training one client takes at least "
            f"{weights * _BYTES * _COPIES / 2**30:.3g} GiB, and this machine has {memory / 2**30:.3g} GiB of memory; "
            "choose a smaller one"
        )
