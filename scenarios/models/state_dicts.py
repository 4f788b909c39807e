"""A state dict from a file, read without running code from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoflip_secure.errors import DataError, UnsupportedModelError
from autoflip_secure.scenarios.data.files import opened
from autoflip_secure.terminal.counting import some

_SAVE = "save it with safetensors.torch.save_file(module.state_dict(), path) or torch.save(module.state_dict(), path)"


def load_weights(module: nn.Module, path: Path, output: str) -> None:
    """Put the tensors of a state dict into ``module``; those of the output layer only where their shape is the same.

    Args:
        module: changed in place; one on the meta device has only its shapes compared.
        path: ``.safetensors``, or what ``torch.save`` wrote (read with ``weights_only=True``).
        output: what the names of the output layer begin with.

    Raises:
        DataError: the file cannot be read, is no state dict, or does not fit ``module``; names the tensors.
    """
    given, own = read_state_dict(path), module.state_dict(keep_vars=True)
    other = {name for name in given if name.startswith(output) and name in own and given[name].shape != own[name].shape}
    wanted = {name for name, tensor in own.items() if tensor.is_floating_point()}
    absent, strange = sorted(wanted - given.keys()), sorted(given.keys() - own.keys())
    if absent or strange:
        lacks = f"lacks {some(absent, 3)}" if absent else f"holds {some(strange, 3)}, which the model has not"
        raise DataError(f"{path}: {lacks}; give a state dict of this architecture, of the same width and norm")
    for name, tensor in own.items():
        if name not in given or name in other:
            continue
        if given[name].shape != tensor.shape:
            raise DataError(
                f"{path}: {name} has shape {tuple(given[name].shape)}, the model's has {tuple(tensor.shape)}; give a "
                "state dict of this architecture, of the same width and number of image channels"
            )
        if not bool(given[name].isfinite().all()):
            raise UnsupportedModelError(f"{path}: {name} holds NaN or infinity; give weights that are finite")
        if not tensor.is_meta:
            with torch.no_grad():
                tensor.copy_(given[name])


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU.

    Raises:
        DataError: the file cannot be read, or is no state dict.
    """
    with opened(path, "a state dict", _SAVE, "zip", "pickle") as file:
        content: Any
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            content = load(file.read())
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path}: holds a {type(content).__name__}, expected names and tensors; {_SAVE}")
    wrong = next((name for name, one in content.items() if not isinstance(one, Tensor)), None)
    if wrong is not None:
        raise DataError(f"{path}: {wrong!r} is a {type(content[wrong]).__name__}, expected a tensor; {_SAVE}")
    return {str(name): tensor.detach() for name, tensor in content.items()}
