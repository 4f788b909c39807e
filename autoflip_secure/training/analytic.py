r"""Clipped sums of per-sample gradients from the inputs and outer gradients of layers, without making the gradients.

For a fully connected layer with inputs :math:`a_i` and gradients :math:`g_i` of its outputs, sample i's gradient is
:math:`g_i a_i^\top`, its squared norm :math:`\|g_i\|^2 \|a_i\|^2` (Goodfellow 2015), under a mask
:math:`\sum_{oj} M_{oj} g_{io}^2 a_{ij}^2`, and the clipped sum :math:`\sum_i c_i g_i a_i^\top` one product of matrices.
Convolutions are the same on unfolded inputs. :math:`g_i` is the gradient with respect to a zero added to the outputs.

That holds where every trained tensor is used by one call of its own layer and by nothing else, and samples lie along
the first dimension. A layer's type does not say so: a forward may use a weight by itself, a hook may change an output.
:func:`clipped_sums` therefore tries the formulas beside the plain way before it trusts them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils.hooks import RemovableHandle

from autoflip_secure.training.chain import ChainProgram
from autoflip_secure.training.chain.sums import ChainSums
from autoflip_secure.training.convolutions import Convolving, same_calls
from autoflip_secure.training.layer_sums import factors_of, layer_sums
from autoflip_secure.training.per_sample import ClippedSums, Plain
from autoflip_secure.training.program import cross_entropy, single_forward

TOLERANCE = 1e-9
"""Largest difference in the trial, in double, relative to the largest coordinate of the same sum."""


def clipped_sums(
    net: nn.Module,
    names: list[str],
    trained: list[int],
    inputs: Tensor,
    notes: dict[str, bool],
    program: ChainProgram | None = None,
) -> ClippedSums:
    """The quickest way for a module: by formulas where every trained tensor allows it, else the plain way.

    Args:
        net: a private copy in training mode.
        names: of the tensors of the layout, in order.
        trained: positions in ``names`` of the tensors that are trained.
        inputs: one or more inputs (batch, *features); two different ones make a better trial.
        notes: the outcome of an earlier trial of the same module, and where this one's is put.
        program: of the module, if it is a chain.
    """
    plain = Plain(net, names, trained)
    if program is not None and program.whole_layers:
        if program.sums_hold is None:
            trial = _Trial(_trial_weights(net, names, trained), inputs)
            program.sums_hold = _agree(trial.gradients(ChainSums(program)), trial.gradients(plain))
        if program.sums_hold:
            return ChainSums(program)
    layers = _layers(net, {names[number] for number in trained}, inputs[:1])
    if layers is None:
        return plain
    key = "formulas hold for " + " ".join(layers)
    if key not in notes:
        trial = _Trial(_trial_weights(net, names, trained), inputs)
        expected = trial.gradients(plain)  # before the formulas hook themselves into the layers
        quick = Analytic(net, names, trained, layers)
        notes[key] = _agree(trial.gradients(quick), expected)
        quick.close()
    return Analytic(net, names, trained, layers) if notes[key] else plain


def _layers(net: nn.Module, trained: set[str], sample: Tensor) -> list[str] | None:
    """Names of the layers in order of use, if all trained tensors belong to layers with a formula, each used once."""
    wanted: dict[str, nn.Module] = {}
    found: set[str] = set()
    for name, layer in net.named_modules():
        own = {_name(name, key) for key, _ in layer.named_parameters(recurse=False)}
        if not own & trained:
            continue
        if not _has_formula(layer) or not own <= trained:
            return None
        wanted[name] = layer
        found |= own
    if found != trained or len(list(net.named_parameters(remove_duplicate=False))) != len(list(net.parameters())):
        return None
    used: list[str] = []

    def noting(name: str) -> Any:
        return lambda layer, inputs, output: used.append(name)

    handles = [layer.register_forward_hook(noting(name)) for name, layer in wanted.items()]
    try:
        with torch.no_grad():
            net(sample)
    finally:
        for handle in handles:
            handle.remove()
    return used if sorted(used) == sorted(wanted) else None


def _trial_weights(net: nn.Module, names: list[str], trained: list[int]) -> list[Tensor]:
    """Four times the module's weights, moved a little, so that none is zero."""
    tensors = dict(net.named_parameters()) | dict(net.named_buffers())
    stack = [torch.stack([tensors[name].detach().double()] * 4) for name in names]
    for number in trained:
        waves = torch.arange(stack[number].numel(), device=stack[number].device)
        stack[number] = stack[number] + 0.1 * torch.cos(waves.double()).reshape(stack[number].shape)
    return stack


class _Trial:
    """Each of two samples alone, its gradient as it is and clipped to next to nothing, in double."""

    def __init__(self, tensors: list[Tensor], inputs: Tensor) -> None:
        pair = torch.cat([inputs[:1], inputs[-1:]]).double()
        self.tensors, self.inputs = tensors, torch.stack([pair] * 4)
        self.labels = torch.zeros(4, 2, dtype=torch.long, device=pair.device)
        self.real = torch.eye(2, device=pair.device).double().repeat(2, 1)
        self.clip = torch.tensor([1e9, 1e9, 1e-3, 1e-3], device=pair.device, dtype=torch.float64)

    def gradients(self, way: ClippedSums) -> list[Tensor] | None:
        """What ``way`` makes of it; None when it cannot be run like this."""
        try:
            return way(self.tensors, None, self.inputs, self.labels, self.real, self.clip)[0]
        except (RuntimeError, IndexError, TypeError, ValueError):  # shapes that formulas do not foresee, or no double
            return None


def _agree(found: list[Tensor] | None, expected: list[Tensor] | None) -> bool:
    if found is None or expected is None or [t.shape for t in found] != [t.shape for t in expected]:
        return False
    rows, wanted = (torch.cat([t.reshape(len(t), t[0].numel()) for t in sums], 1) for sums in (found, expected))
    return bool(((rows - wanted).abs().amax(1) <= TOLERANCE * wanted.abs().amax(1)).all())


def _name(layer: str, key: str) -> str:
    return f"{layer}.{key}" if layer else key


def _has_formula(layer: nn.Module) -> bool:
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class Analytic(ClippedSums):
    """By formulas; ``net`` keeps hooks until :meth:`close`."""

    def __init__(self, net: nn.Module, names: list[str], trained: list[int], layers: list[str]) -> None:
        self._layers = [(name, net.get_submodule(name)) for name in layers]
        self._place = {names[number]: place for place, number in enumerate(trained)}
        self._zeros: dict[tuple[int, ...], list[Tensor]] = {}
        self._added: list[Tensor] = []
        self._seen: list[Tensor] = []
        self._handles: list[RemovableHandle] = [layer.register_forward_hook(self._hook) for _, layer in self._layers]
        self._forward = vmap(self._one)
        self._plain = single_forward(net, names, Convolving(same_calls, (1, 2, 3)))

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        self._seen.append(inputs[0])
        return output + self._added[len(self._seen) - 1] if self._added else output

    def _one(self, tensors: list[Tensor], added: list[Tensor], inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        self._added, self._seen = added, []
        scores = self._plain(tensors, inputs)
        return scores, self._seen

    def _nothing(self, tensors: list[Tensor], inputs: Tensor) -> list[Tensor]:
        """Zeros shaped like every layer's outputs."""
        key = tuple(inputs.shape)
        if key not in self._zeros:
            shapes: list[Tensor] = []

            def note(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
                shapes.append(torch.zeros(len(inputs), *output.shape, dtype=output.dtype, device=inputs.device))

            handles = [layer.register_forward_hook(note) for _, layer in self._layers]
            self._added = []
            with torch.no_grad():
                self._plain([tensor[0] for tensor in tensors], inputs[0])
            for handle in handles:
                handle.remove()
            self._zeros[key] = [zero.requires_grad_() for zero in shapes]
        return self._zeros[key]

    def __call__(  # noqa: D102 - as in the base class
        self,
        tensors: list[Tensor],
        masks: list[Tensor] | None,
        inputs: Tensor,
        labels: Tensor,
        real: Tensor,
        clip: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        added = self._nothing(tensors, inputs)
        with torch.enable_grad():
            scores, seen = self._forward(tensors, added, inputs)
            losses = cross_entropy(scores, labels)
            outer = torch.autograd.grad(losses, added, torch.ones_like(losses))
        with torch.no_grad():
            parts = [
                layer_sums(layer, given.detach(), out, self._masks(name, masks))
                for (name, layer), given, out in zip(self._layers, seen, outer, strict=True)
            ]
            factors = factors_of(parts, real, clip)
            sums: list[Tensor | None] = [None] * len(self._place)
            for (name, _), part in zip(self._layers, parts, strict=True):
                weight, bias = part.total(factors)
                sums[self._place[_name(name, "weight")]] = weight
                if bias is not None:
                    sums[self._place[_name(name, "bias")]] = bias
        return [total for total in sums if total is not None], losses.detach()

    def _masks(self, name: str, masks: list[Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
        if masks is None:
            return None, None
        bias = self._place.get(_name(name, "bias"))
        return masks[self._place[_name(name, "weight")]], None if bias is None else masks[bias]
