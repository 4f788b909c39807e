r"""A chain of layers as a program: losses of many models and their gradients, in two passes written by hand.

With the weights :math:`\omega_{mi}` of a step's samples (see :mod:`~autoflip_secure.training.stacked`) the gradient of
the scores is :math:`\omega_{mi} (\text{softmax}(s_{mi}) - e_{y_{mi}})`; from there layer by layer, back to the first
that is trained. Everything is one call of a library for all models of the stack.

Whether a module is such a chain is read from it, and tried: on two samples, in double, the program and autograd must
give the same gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from autoflip_secure.models.layout import Layout
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose
from autoflip_secure.training.base import named_tensors, working_copy
from autoflip_secure.training.chain.layers import Affine
from autoflip_secure.training.chain.reading import HOOKS, NoChainError, Part, read
from autoflip_secure.training.program import cross_entropy, kept_floats, order_of, stacked_forward

TOLERANCE = 1e-9
"""Largest difference in the trial, in double, relative to the largest coordinate of the same tensor's gradient."""

ROUNDING = 1e-14
"""What may be left in double of a gradient that is zero, as behind a softmax of one class."""

Collect = Callable[[Affine, Tensor, Tensor], None]
"""What is done with a layer's A and G, (models, rows, inputs) and (models, rows, outputs)."""


@dataclass(frozen=True)
class Bound:
    """The tensors of a stack as the layers take them; views, so that steps in place are seen."""

    matrices: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]


class ChainProgram:
    """A module that is a chain.

    Args:
        parts: its operations in order.
        trained: places of the tensors that get gradients.
        kept: floats that autograd would keep of one sample, by which the height of stacks is chosen.
    """

    def __init__(self, parts: Sequence[Part], trained: Sequence[int], kept: int) -> None:
        self._parts = tuple(parts)
        self.trained, self.kept = tuple(trained), kept
        self._layers = layers = [part for part in self._parts if isinstance(part, Affine)]
        used = {place for layer in layers for place in (layer.weight, layer.bias)}
        assert used >= set(trained)
        self._slots = {place: slot for slot, place in enumerate(trained)}
        self._first = next(n for n, layer in enumerate(layers) if {layer.weight, layer.bias} & set(trained))
        self.whole_layers = all(
            layer.bias is None or (layer.weight in self._slots) is (layer.bias in self._slots) for layer in layers
        )  # whether each is trained with its bias, or not at all
        self.sums_hold: bool | None = None  # what a trial of its clipped sums said; None: there was none

    def orders(self, layout: Layout) -> list[list[int] | None]:
        """As :func:`~autoflip_secure.training.program.gradient_orders`."""
        shapes = [segment.shape for segment in layout]
        found: list[list[int] | None] = [None] * len(shapes)
        for layer in self._layers:
            if layer.weight in self._slots:
                matrix = layer.matrix(torch.empty(2, *shapes[layer.weight]))
                found[layer.weight] = order_of(layer.gradient(torch.empty(matrix.shape)))
            if layer.bias is not None and layer.bias in self._slots:
                found[layer.bias] = [0, 1]
        return found

    def bind(self, tensors: Sequence[Tensor]) -> Bound:
        """Take the tensors of a stack, (models, *shape) in the order of the layout."""
        return Bound(
            tuple(layer.matrix(tensors[layer.weight]) for layer in self._layers),
            tuple(None if layer.bias is None else tensors[layer.bias].unsqueeze(1) for layer in self._layers),
        )

    def scores(self, bound: Bound, inputs: Tensor) -> Tensor:
        """Of inputs (models, batch, *features): (models, batch, classes)."""
        return self._forward(bound, inputs)[0]

    def forward(self, tensors: list[Tensor], inputs: Tensor) -> Tensor:
        """:meth:`scores` for the tensors of a stack, as a :data:`~autoflip_secure.training.program.StackedForward`."""
        return self.scores(self.bind(tensors), inputs)

    def gradients(self, bound: Bound, inputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Losses (models, batch), and a gradient of their weighted sum for each trained tensor, (models, *shape).

        Args:
            bound: the weights.
            inputs: (models, batch, *features).
            labels: (models, batch).
            weights: (models, batch), of each loss in the sum.
        """
        found: list[Tensor | None] = [None] * len(self.trained)

        def collect(layer: Affine, given: Tensor, outer: Tensor) -> None:
            if layer.weight in self._slots:
                matrix = torch.bmm(given.transpose(1, 2), outer)
                found[self._slots[layer.weight]] = layer.gradient(matrix)
            if layer.bias is not None and layer.bias in self._slots:
                found[self._slots[layer.bias]] = outer.sum(1)

        losses = self.passes(bound, inputs, labels, weights, collect)
        return losses, [gradient for gradient in found if gradient is not None]

    @torch.no_grad()
    def passes(self, bound: Bound, inputs: Tensor, labels: Tensor, weights: Tensor, collect: Collect) -> Tensor:
        """Forward and back; ``collect`` gets the layers, the last one first. Losses (models, batch)."""
        scores, kept = self._forward(bound, inputs)
        losses, grad = loss_and_gradient(scores, labels, weights)
        number = len(self._layers)
        for part, seen in zip(reversed(self._parts), reversed(kept), strict=True):
            if not isinstance(part, Affine):
                grad = part.backward(grad, seen)
                continue
            number -= 1
            (given,), outer = seen, part.rows(grad)
            collect(part, given, outer)
            if number == self._first:
                break
            grad = part.back(outer, bound.matrices[number], inputs.shape[1])
        return losses

    @torch.no_grad()
    def _forward(self, bound: Bound, inputs: Tensor) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        x, number = inputs, 0
        kept: list[tuple[Tensor, ...]] = []
        for part in self._parts:
            if isinstance(part, Affine):
                out, rows = part.forward(x, bound.matrices[number], bound.biases[number])
                kept.append((rows,))
                x, number = out, number + 1
            else:
                x, seen = part.forward(x)
                kept.append(seen)
        return x, kept


def loss_and_gradient(scores: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`~autoflip_secure.training.program.cross_entropy` and the gradient of its weighted sum, as autograd has it.

    ``scores`` (models, batch, classes) are overwritten by the gradient.
    """
    places = labels.unsqueeze(-1)
    scores.sub_(scores.amax(-1, keepdim=True))
    chosen = scores.gather(-1, places).squeeze(-1)
    total = scores.exp_().sum(-1)
    losses = total.log().sub_(chosen)
    scores.mul_((weights / total).unsqueeze(-1)).scatter_add_(-1, places, weights.neg().unsqueeze(-1))
    return losses, scores


def chain_program(
    template: nn.Module, names: list[str], sample: Tensor, *, training: bool = True
) -> ChainProgram | None:
    """The program of a module, or None: it is no chain of known layers, autograd says otherwise, or it is on a GPU.

    Args:
        template: the module; left as it is. What was found out about it is kept as long as it is.
        names: of the tensors of the layout, in order.
        sample: one or more inputs, batch dimension first; the first and the last are tried.
        training: whether in training mode, or in evaluation mode.
    """
    if sample.device.type != "cpu":
        return None
    sample = torch.cat([sample[:1], sample[-1:]])
    known = _known.setdefault(template, {})
    key = (_signature(template), tuple(names), sample.shape[1:], sample.dtype, training)
    if key not in known:
        with drawing_at(0, Purpose.FORWARD):
            known[key] = _proven(working_copy(template, sample.device).train(training), names, sample)
    return known[key]


_known: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], ChainProgram | None]] = WeakKeyDictionary()


def _signature(module: nn.Module) -> tuple[object, ...]:
    """What changes when somebody changes the module: its layers, what they are, their hooks, what is trained."""
    layers = tuple(
        (name, id(layer), layer.extra_repr(), len(vars(layer)), *(len(vars(layer)[hooks]) for hooks in HOOKS))
        for name, layer in module.named_modules()
    )
    return layers, tuple(parameter.requires_grad for parameter in module.parameters())


def _proven(net: nn.Module, names: list[str], sample: Tensor) -> ChainProgram | None:
    named = named_tensors(net)
    trained = [number for number, name in enumerate(names) if named[name].requires_grad]
    try:
        parts = read(net, names, sample)
        if not trained or not _uses(parts) >= set(trained):
            return None
        program = ChainProgram(parts, trained, kept_floats(net, sample[:1]))
        return program if _agrees(program, net, names, sample) else None
    except (NoChainError, RuntimeError):  # the latter: shapes that do not fit, or a forward that vmap refuses
        return None


def _uses(parts: Sequence[Part]) -> set[int | None]:
    return {place for part in parts if isinstance(part, Affine) for place in (part.weight, part.bias)}


def _agrees(program: ChainProgram, net: nn.Module, names: list[str], sample: Tensor) -> bool:
    """Whether two models, the module's own weights and others, get the gradients of autograd on two samples."""
    named = named_tensors(net)
    wave = [torch.arange(named[name].numel()).cos().reshape(named[name].shape).double() for name in names]
    own = [named[name].detach().double() for name in names]
    tensors = [torch.stack([one, one + 0.1 * other]) for one, other in zip(own, wave, strict=True)]
    pair = torch.cat([sample[:1], sample[-1:]]).double()
    inputs, labels = torch.stack([pair, pair]), torch.tensor([[0, 0], [0, 0]])
    weights = torch.tensor([[0.5, 0.5], [0.25, 1.0]], dtype=torch.float64)
    leaves = [tensors[number].requires_grad_() for number in program.trained]
    with torch.enable_grad():
        losses = cross_entropy(stacked_forward(net, names)(tensors, inputs), labels)
        wanted = torch.autograd.grad(losses, leaves, weights)
    detached = [tensor.detach() for tensor in tensors]
    found_losses, found = program.gradients(program.bind(detached), inputs, labels, weights)
    return _close(found_losses, losses.detach()) and all(map(_close, found, wanted))


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape or prod(found.shape) == 0:
        return False
    return bool((found - wanted).abs().max() <= max(ROUNDING, TOLERANCE * float(wanted.abs().max())))
