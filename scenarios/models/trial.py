"""One pass of a model over rows of the data it is for: does it take them, and are there logits at the end?"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.scenarios.models.blame import Passage, followed, layer_called
from autoflip_secure.terminal.counting import count_of


def check_model(module: nn.Module, rows: Shaped[Tensor, "rows ..."], num_classes: int) -> None:
    """A trial forward pass in evaluation mode, which also gives lazy layers their shape; modes stay as they were.

    Args:
        module: changed only where it is lazy.
        rows: inputs from the data.
        num_classes: how many logits are expected for each row.

    Raises:
        UnsupportedModelError: nothing to train, numbers other than float32, the pass fails, or gives anything but
            finite numbers of shape (rows, num_classes); names the layer.
    """
    _check_parameters(module)
    with torch.no_grad(), _evaluating(module):
        logits = scores(module, rows, num_classes)
    if not logits.isfinite().all():
        raise UnsupportedModelError(
            f"model {type(module).__name__} gives NaN or infinity with its initial weights for rows of the data, whose "
            f"values lie between {float(rows.min()):.4g} and {float(rows.max()):.4g}; correct them, or scale the data"
        )


def scores(module: nn.Module, rows: Tensor, num_classes: int, doing: str = "") -> Tensor:
    """The logits (rows, num_classes) of one pass, or a sentence with the layer in which it went wrong.

    Args:
        module: in the mode that is to be tried.
        rows: inputs.
        num_classes: how many logits are expected for each row.
        doing: for messages, what the pass is part of.

    Raises:
        UnsupportedModelError: the pass fails, or gives something else.
    """
    name, count = type(module).__name__, len(rows)
    given = f"{count_of(count, 'sample')} of shape {tuple(rows.shape[1:])}"
    passage, shown = Passage(), rows.clone()  # the rows themselves are everybody's
    untouched = shown._version
    try:
        with followed(module, passage), quiet():
            output = module(shown)
    except Exception as error:  # it is the user's module: it can fail in any way
        raise UnsupportedModelError(
            f"model {name} failed on {given}{doing}, in {layer_called(module, (passage.inside or [''])[-1])}: "
            f"{type(error).__name__}: {first_line(error)}; {_way_out(rows, error, doing)}"
        ) from error
    if shown._version != untouched:
        raise UnsupportedModelError(
            f"model {name} writes into its inputs{doing}, which every client and every model is given; let its forward "
            "make a new tensor (x = x - 0.5, not x -= 0.5), and let the first layer have inplace=False"
        )
    if not isinstance(output, Tensor):
        raise UnsupportedModelError(
            f"model {name} gives a {type(output).__name__}, expected one tensor of logits; let its forward return "
            "only the logits"
        )
    if output.shape != (count, num_classes):
        raise UnsupportedModelError(_wrong_shape(name, output, count, num_classes) + doing)
    if output.dtype not in (torch.float32, torch.float64):
        raise UnsupportedModelError(
            f"model {name} gives logits of dtype {output.dtype}, expected torch.float32; end its forward with .float()"
        )
    return output


def copied(module: nn.Module) -> nn.Module:
    """A copy of its own.

    Raises:
        UnsupportedModelError: it cannot be copied.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise UnsupportedModelError(
            f"model {type(module).__name__} is compiled by torch.jit, and a copy of it computes with weights that are "
            "not its own; return the nn.Module itself, without torch.jit.script or torch.jit.trace"
        )
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise UnsupportedModelError(
            f"model {type(module).__name__} cannot be copied ({first_line(error)}); each client trains a copy: keep "
            "open files, locks, generators and results of earlier passes out of the module"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, nobody is warned: what a trial warns of is said again when the model runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def first_line(error: BaseException) -> str:
    """What an error says, its first line."""
    return (str(error).strip() or "no reason given").splitlines()[0]


def _way_out(rows: Tensor, error: Exception, doing: str) -> str:
    if isinstance(error, IndexError) and not rows.is_floating_point():
        low, high = int(rows.min()), int(rows.max())
        return f"the rows hold whole numbers from {low} to {high}: let its embedding have more than {high} entries"
    if "expected" in str(error).lower() and "scalar type long, int" in str(error).lower():
        return "save token ids as whole numbers (int64), which stay what they are"
    return "fix what it does there" if doing else "choose a model that takes this shape"


def _wrong_shape(name: str, output: Tensor, count: int, num_classes: int) -> str:
    found, wanted = tuple(output.shape), (count, num_classes)
    text = f"model {name} gives outputs of shape {found} for {count_of(count, 'sample')}, expected "
    text += f"{wanted}: "
    if count == 1 and found == (num_classes,):
        return text + "do not squeeze the batch dimension (name the dimension, .squeeze(-1), or leave it out)"
    return text + (
        f"one logit for each of the {num_classes} classes of the data; let its last layer have {num_classes} outputs "
        f"(a factory is given num_classes={num_classes})"
    )


def _check_parameters(module: nn.Module) -> None:
    """Something to train, all of it float32, and no parameter without entries."""
    name = type(module).__name__
    for key, parameter in module.named_parameters():
        if not is_lazy(parameter) and parameter.numel() == 0:
            raise UnsupportedModelError(
                f"model {name}: {key} has shape {tuple(parameter.shape)}, so nothing in it can be trained; leave it out"
            )
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.dtype != torch.float32 and (tensor.is_floating_point() or isinstance(tensor, nn.Parameter)):
            raise UnsupportedModelError(
                f"model {name}: {key} has dtype {tensor.dtype}, expected torch.float32; return the model as .float()"
            )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        why = "all its parameters are frozen" if any(True for _ in module.parameters()) else "it has no parameters"
        raise UnsupportedModelError(
            f"model {name} has nothing to train: {why}; leave requires_grad = True on some of them"
        )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
