"""A rehearsal as large as the play: what a run does with a model, once, on rows of its data, before anything is made.

A run builds a model for every seed, puts weights of one into the architecture of another, evaluates it, trains it on
batches of any size in whatever order clients come, and looks for its units. What goes wrong in one of these would end
a sweep in the middle, or, worse, give numbers that depend on what ran before. Each is tried here; the first that fails
is refused in a sentence with the layer and the way out. What a trial of a few passes cannot show (a draw that is made
once in a thousand passes, a step counter that matters from the hundredth on) stays out of sight.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.layout import Layout
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.scenarios.data.base import Dataset
from autoflip_secure.scenarios.models.blame import Passage, attribute_called, followed, layer_called, went_apart
from autoflip_secure.scenarios.models.trial import copied, first_line, quiet, scores
from autoflip_secure.seeds import Purpose
from autoflip_secure.training.bits import same_bits

Build = Callable[[int], nn.Module]
"""A seed -> a new module with its initial weights."""

_WAY_OUT = "draw from torch's global generator, which is at an address of the seed"


def trial_rows(data: Dataset) -> Shaped[Tensor, "rows ..."]:
    """Rows that a model is tried on: the first two of training, and those that hold the extremes of all inputs."""
    rows = [data.x_train[:2]]
    for inputs in (data.x_train, data.x_test):
        flat = inputs.flatten(1)
        for place in (int(flat.amin(1).argmin()), int(flat.amax(1).argmax())):
            rows.append(inputs[place : place + 1])
    return torch.cat(rows)


def rehearse_building(build: Build, rows: Shaped[Tensor, "rows ..."], seed: int) -> None:
    """Equal seeds give equal models, and what another seed changes is all in parameters and buffers that are saved.

    Args:
        build: makes the model, tried on rows of its data.
        rows: inputs.
        seed: one of the run.

    Raises:
        UnsupportedModelError: names the layer and the attribute.
    """
    first = build(seed)
    with elsewhere():
        again, other = build(seed), build(seed + 1)
    name = type(first).__name__
    apart = _differing(first, again)
    if apart is not None:
        raise UnsupportedModelError(
            f"model {name}: {attribute_called(first, *apart)} differs when the model is built again with the same "
            f"seed; its numbers come from a private generator, or from what ran before: {_WAY_OUT}"
        )
    if not same_bits(answer(copied(first), rows), answer(copied(again), rows)):
        found = differing_attribute(first, again)
        what = attribute_called(first, *found) if found else "something in it"
        raise UnsupportedModelError(
            f"model {name} gives different scores when it is built again with the same seed: {what} differs; "
            f"{_WAY_OUT}, and keep the numbers in a buffer (register_buffer)"
        )
    layout = Layout.of(first)
    carrier = copied(first)
    try:
        layout.load(carrier, Layout.of(other).vector(other))
    except Exception as error:  # other shapes or names for another seed
        raise UnsupportedModelError(
            f"model {name} has another architecture for another seed ({first_line(error)}); only its weights may be "
            "drawn at random"
        ) from error
    if not same_bits(answer(copied(carrier), rows), answer(copied(other), rows)):
        _refuse_hidden(name, first, other)


def rehearse_evaluation(module: nn.Module, rows: Shaped[Tensor, "rows ..."], num_classes: int) -> None:
    """Two evaluations of one model give one answer, whatever was drawn, evaluated or asked for before.

    Raises:
        UnsupportedModelError: names the layer.
    """
    net = copied(module).eval()
    name, (one, other) = type(module).__name__, (Passage(), Passage())
    found = []
    for address, passage in enumerate((one, other)):
        with torch.no_grad(), drawing_at(0, Purpose.EVALUATION, address), followed(net, passage):
            found.append(scores(net, rows, num_classes))
    if not same_bits(*found):
        layer = layer_called(net, went_apart(one, other) or "")
        raise UnsupportedModelError(
            f"model {name} gives different scores when it is evaluated twice, from {layer} on: it draws random "
            "numbers or remembers something while it is evaluated; let it do so only in training (F.dropout(x, p, "
            "training=self.training), nn.Dropout), or not at all"
        )
    with torch.no_grad(), drawing_at(0, Purpose.EVALUATION):
        scores(net, rows[:1], num_classes)


def differing_attribute(before: nn.Module, after: nn.Module) -> tuple[str, str] | None:
    """The first plain attribute (no parameter, buffer or submodule) of two copies that differs: (layer, attribute)."""
    for (name, one), (_, other) in zip(before.named_modules(), after.named_modules(), strict=False):
        for key, value in plain_attributes(one).items():
            if not _equal(value, plain_attributes(other).get(key)):
                return name, key
    return None


@contextmanager
def elsewhere() -> Iterator[None]:
    """Inside, every global generator stands at another place than outside; afterwards all stand as they did."""
    with drawing_at(0, Purpose.INITIAL_WEIGHTS, 1):
        yield


def answer(module: nn.Module, rows: Tensor) -> Tensor:
    """What a module gives when it is tested, for ``rows``; it stays in evaluation mode."""
    with torch.no_grad(), drawing_at(0, Purpose.EVALUATION), quiet():
        given: Tensor = module.eval()(rows)
    return given


def _differing(one: nn.Module, other: nn.Module) -> tuple[str, str] | None:
    """The first parameter or buffer, saved or not, that differs: (layer, name in it)."""
    pairs = zip_longest(_tensors(one), _tensors(other), fillvalue=("", None))
    for (name, tensor), (_, same) in pairs:
        if tensor is None or same is None or not same_bits(tensor, same):
            owner, _, key = name.rpartition(".")
            return owner, key
    return None


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, tensor.detach()) for name, tensor in (*module.named_parameters(), *module.named_buffers())]


def _refuse_hidden(name: str, first: nn.Module, other: nn.Module) -> NoReturn:
    """Something that a seed changes is neither a parameter nor a buffer that the layout knows."""
    known = {segment.name for segment in Layout.of(first)}
    others = dict(_tensors(other))
    hidden = [key for key, tensor in _tensors(first) if key not in known and not same_bits(tensor, others[key])]
    found = (*hidden[0].rpartition(".")[::2],) if hidden else differing_attribute(first, other)
    what = attribute_called(first, *found) if found else "something in it"
    raise UnsupportedModelError(
        f"model {name}: {what} depends on the seed but is neither a parameter nor a saved buffer of floats, so every "
        "seed would use the value of one; use nn.Parameter, or register_buffer with float values"
    )


_PRIVATE = frozenset(vars(nn.Module()))


def plain_attributes(part: nn.Module) -> dict[str, Any]:
    """What a user's class keeps beside parameters, buffers, submodules and hooks."""
    return {key: value for key, value in vars(part).items() if key not in _PRIVATE}


def _equal(one: Any, other: Any) -> bool:
    """Of what can be compared; what cannot counts as equal."""
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    content = next((tell for kind, tell in _CONTENT if isinstance(one, kind) and isinstance(other, kind)), None)
    return content is None or content(one) == content(other)


_CONTENT: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (Tensor, lambda tensor: (tensor.shape, str(tensor.dtype), tensor.detach().cpu().contiguous().numpy().tobytes())),
    (np.ndarray, lambda array: (array.shape, str(array.dtype), array.tobytes())),
    (torch.Generator, lambda source: source.get_state().numpy().tobytes()),
    (np.random.Generator, lambda source: repr(source.bit_generator.state)),
    (np.random.RandomState, lambda source: repr(source.get_state(legacy=False))),
    (random.Random, lambda source: source.getstate()),
    (nn.Module, lambda part: [(key, tensor.numpy().tobytes()) for key, tensor in part.state_dict().items()]),
    (int | float | complex | str | bytes, repr),
)
