"""Stacked or one at a time: what the model allows, and what is faster.

Stacking saves the overhead of many small steps. It gains nothing where one model's weights and activations already fill
the processor's caches; measured on one core, it loses (0.8-0.95 of the speed of one at a time) where fewer than
:data:`WORTHWHILE` models fit the budget of a step: above about 450k parameters, less for convolutions on large images.
"""

from __future__ import annotations

import copy
import warnings
from typing import Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.interfaces.schedule import Precision
from autoflip_secure.models.layout import Layout
from autoflip_secure.runtime.memory import out_of_memory
from autoflip_secure.runtime.user_randomness import GlobalDraws, drawing_at
from autoflip_secure.seeds import Purpose
from autoflip_secure.training.base import Trainer, named_tensors, resolve_device
from autoflip_secure.training.program import SLOW, cross_entropy, kept_floats, stacked_forward
from autoflip_secure.training.sequential import PrivateFit, SequentialTrainer
from autoflip_secure.training.stacked import BUDGET, StackedTrainer

WORTHWHILE = 4
"""Models that must fit the budget of a step (at the default batch size) for ``auto`` to stack."""

_TOLERANCE = 1e-4  # of a stacked forward against a plain one, relative to the largest score


def choose_trainer(
    module: nn.Module,
    layout: Layout,
    sample: Shaped[Tensor, "batch ..."],
    kind: Literal["auto", "stacked", "sequential"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "cpu",
    private: PrivateFit | None = None,
    precision: Precision = "float32",
) -> Trainer:
    """The trainer for a model, with the reason of the choice.

    Args:
        module: the model; left as it is.
        layout: its layout.
        sample: one or more inputs, batch dimension first.
        kind: ``auto`` stacks what can be stacked if at least :data:`WORTHWHILE` models fit the budget of a step.
        device: ``auto`` takes the GPU when there is one.
        private: DP-SGD of one client, for models that cannot be stacked.
        precision: of local training; ``auto`` trains one client at a time in any other than float32.

    Raises:
        InputError: ``cuda`` without a GPU, or ``stacked`` in another precision than float32.
        UnsupportedModelError: ``stacked`` was asked for and the model cannot be stacked, or its output is not one row
            of class scores per sample.
    """
    where = resolve_device(device)
    if kind == "stacked" and precision != "float32":
        raise InputError(f"trainer = 'stacked' trains in float32 alone, not in {precision}; set trainer: auto")
    if kind == "sequential" or precision != "float32":
        with drawing_at(0, Purpose.FORWARD):
            _scores(_trial(module), _two_rows(sample))
        reason = "asked for" if kind == "sequential" else f"training.precision = {precision} is for one at a time"
        return SequentialTrainer(reason, where, private)
    problem = stackable(module, sample)
    if kind == "stacked":
        if problem is not None:
            raise UnsupportedModelError(
                f"trainer = 'stacked' cannot train {type(module).__name__}: {problem}; "
                "set trainer: auto or trainer: sequential"
            )
        return StackedTrainer("asked for", where)
    if problem is not None:
        return SequentialTrainer(f"the model cannot be stacked: {problem}", where, private)
    activations = kept_floats(_trial(module), sample[:1].cpu())
    fit = BUDGET[where.type] // (layout.size + TrainingSchedule().batch_size * activations)
    size = f"{layout.size:,} parameters and {activations:,} activations per sample: {fit} such models fit one step"
    if fit < WORTHWHILE:
        return SequentialTrainer(f"{size}, and below {WORTHWHILE} one client at a time is faster", where, private)
    return StackedTrainer(f"{size}, and from {WORTHWHILE} on stacking is faster", where)


def stackable(module: nn.Module, sample: Shaped[Tensor, "batch ..."]) -> str | None:
    """Why ``module`` cannot be trained in a stack, or None when it can.

    Found out by trial on a copy, in training mode, on two inputs: random draws (active Dropout), running statistics
    that move, outputs that depend on the rest of the batch (BatchNorm), an operation that ``vmap`` does not know, or
    scores or gradients that are others in a stack.

    Raises:
        UnsupportedModelError: the output is not one row of class scores per sample.
    """
    net, pair = _trial(module), _two_rows(sample)
    for name, layer in net.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            return f"layer {name!r} ({type(layer).__name__}) normalises over the batch"
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with drawing_at(0, Purpose.FORWARD):
        draws = GlobalDraws.now()
        plain = _scores(net, pair)
        drawn = draws.moved()
    if drawn is not None:
        active = [
            f"{name!r}" for name, m in net.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0
        ]
        source = f"Dropout in layer {', '.join(active)}" if active else "its forward"
        return f"{source} draws random numbers while it trains" + (f" (from {drawn})" if drawn != "torch" else "")
    moved = [name for name, buffer in net.named_buffers() if not torch.equal(buffer, before[name])]
    if moved:
        return f"buffer {moved[0]!r} changes while it trains"
    alone = torch.cat([_scores(net, row.expand_as(pair))[:1] for row in (pair[:1], pair[1:])])
    if not _close(alone, plain):
        return "its output for one sample depends on the other samples of the batch"
    return _vmap_problem(net, pair, plain)


def _vmap_problem(net: nn.Module, pair: Tensor, plain: Tensor) -> str | None:
    named = named_tensors(net)
    names = [name for name, tensor in named.items() if tensor.is_floating_point()]
    other = copy.deepcopy(net)  # other weights, so that a module which keeps weights aside is found out
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    others = named_tensors(other)
    both = [torch.stack([named[name].detach(), others[name].detach()]) for name in names]
    leaves = [leaf.requires_grad_() for name, leaf in zip(names, both, strict=True) if named[name].requires_grad]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scores = stacked_forward(net, names)(both, torch.stack([pair, pair]))
            stacked = _gradients(scores, leaves)
    except Exception as error:  # it is the user's module: it can fail in any way
        if out_of_memory(error):
            raise
        return f"vmap refuses it ({(str(error).strip() or type(error).__name__).splitlines()[0]})"
    if any(SLOW in str(warning.message) for warning in caught):
        return "vmap has no fast rule for one of its operations"
    if not (_close(scores.detach()[0], plain) and _close(scores.detach()[1], _scores(other, pair))):
        return "its stacked output differs from its plain one"
    trained = [name for name in names if named[name].requires_grad]
    for place, (alone, tensors) in enumerate(((net, named), (other, others))):
        plain_ones = _gradients(alone(pair), [tensors[name] for name in trained])
        for name, one, many in zip(trained, plain_ones, stacked, strict=True):
            if not _close(one, many[place]):
                return f"the stacked gradient of {name} differs from its plain one"
    return None


def _gradients(scores: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Of the sum of all samples' losses, with labels 0, 1, 0, …; zeros for what gets none."""
    labels = (torch.arange(scores.shape[-2]) % scores.shape[-1] % 2).expand(scores.shape[:-1])
    found = torch.autograd.grad(cross_entropy(scores, labels).sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, found, strict=True)]


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _TOLERANCE * (1 + other.abs().max()))


def _trial(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).cpu().train()


def _two_rows(sample: Tensor) -> Tensor:
    """The first input and one that differs from it: another of the sample, or else a made-up one."""
    rows = sample.detach().cpu()
    first = rows[:1]
    others = rows[(rows != first).flatten(1).any(1)]
    if len(others) == 0:
        others = first + 1 if first.is_floating_point() else torch.zeros_like(first)
    return torch.cat([first, others[:1]])


def _scores(net: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        scores = net(inputs)
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(inputs):
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UnsupportedModelError(
            f"{type(net).__name__} gives {shape} for {len(inputs)} inputs; "
            f"it must give one row of class scores per input, shape ({len(inputs)}, classes)"
        )
    return scores
