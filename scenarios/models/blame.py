"""Which layer it was: the submodule in which a pass failed, or in which two equal passes went apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autoflip_secure.training.bits import same_bits


def layer_called(module: nn.Module, name: str) -> str:
    """How a message calls a submodule, by its name in ``module``: ``layer 'fc' (Linear)``."""
    return f"layer {name!r} ({type(module.get_submodule(name)).__name__})" if name else "its own forward"


def attribute_called(module: nn.Module, owner: str, key: str) -> str:
    """How a message calls what a submodule keeps: ``'weight' of layer 'fc' (Linear)``, or ``its 'scale'``."""
    return f"{key!r} of {layer_called(module, owner)}" if owner else f"its {key!r}"


@dataclass
class Passage:
    """What went through the submodules of one pass."""

    inside: list[str] = field(default_factory=list)  # entered and not left: the last one is where a pass failed
    calls: list[tuple[str, list[Tensor], list[Tensor]]] = field(default_factory=list)  # in the order of leaving


@contextmanager
def followed(module: nn.Module, passage: Passage) -> Iterator[None]:
    """Writes down in ``passage`` what goes through ``module`` while the context is open (scripted parts left out)."""
    hooks = []
    parts = [(name, part) for name, part in module.named_modules() if not isinstance(part, torch.jit.ScriptModule)]
    for name, part in parts:

        def enter(part: nn.Module, inputs: Any, name: str = name) -> None:
            passage.inside.append(name)

        def leave(part: nn.Module, inputs: Any, outputs: Any, name: str = name) -> None:
            passage.inside.pop()
            passage.calls.append((name, _tensors(inputs), _tensors(outputs)))

        hooks += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def went_apart(one: Passage, other: Passage) -> str | None:
    """The first submodule that gave other outputs for the same inputs; None: none did."""
    for (name, inputs, outputs), (_, others, other_outputs) in zip(one.calls, other.calls, strict=False):
        if _same(inputs, others) and not _same(outputs, other_outputs):
            return name
    return None


def _tensors(value: Any) -> list[Tensor]:
    """Copies of the tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value.detach().clone()]
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in _tensors(part)]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in _tensors(part)]
    return []


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(same_bits, one, other))
