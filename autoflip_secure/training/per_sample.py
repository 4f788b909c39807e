r"""Clipped sums of per-sample gradients of many models at once, without making the gradients where that can be helped.

For a fully connected layer with inputs :math:`a_i` and gradients :math:`g_i` of its outputs, sample i's gradient is
:math:`g_i a_i^\top`, its squared norm :math:`\|g_i\|^2 \|a_i\|^2` (Goodfellow 2015), under a mask
:math:`\sum_{oj} M_{oj} g_{io}^2 a_{ij}^2`, and the clipped sum :math:`\sum_i c_i g_i a_i^\top` one product of matrices.
Convolutions are the same on unfolded inputs. :math:`g_i` is the gradient with respect to a zero added to the outputs.

Models with other layers that have parameters, shared ones, or layers used more than once take the plain way:
``vmap`` over models and samples of the gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import grad, vmap

from autoflip_secure.training.program import cross_entropy, single_forward

STABLE = 1e-6  # added to norms before the division, as Opacus does


class ClippedSums(ABC):
    """Sums over a batch of clipped per-sample gradients, for a stack of models."""

    @abstractmethod
    def __call__(
        self,
        tensors: list[Tensor],
        masks: list[Tensor] | None,
        inputs: Tensor,
        labels: Tensor,
        real: Tensor,
        clip: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        """The sums, and the losses.

        Args:
            tensors: all tensors of the layout, each (models, *shape).
            masks: of the trained tensors, as float (models, *shape); None: everything lives.
            inputs: (models, batch, *features).
            labels: (models, batch).
            real: (models, batch), 0 for padding.
            clip: (models,), L2 norm.

        Returns:
            One sum per trained tensor, (models, *shape); losses (models, batch).
        """


def clip_factors(squared_norms: Tensor, real: Tensor, clip: Tensor) -> Tensor:
    """min(1, C / norm) of every sample, 0 for padding: all (models, batch) but ``clip`` (models,)."""
    return (clip[:, None] / (squared_norms.sqrt() + STABLE)).clamp(max=1) * real


def clipped_sums(net: nn.Module, names: list[str], trained: list[int], sample: Tensor) -> ClippedSums:
    """The quickest way for a module: analytic where every trained tensor allows it.

    Args:
        net: a private copy in training mode.
        names: of the tensors of the layout, in order.
        trained: positions in ``names`` of the tensors that are trained.
        sample: one input (1, *features).
    """
    layers = _analytic_layers(net, {names[number] for number in trained}, sample)
    if layers is None:
        return _Plain(net, names, trained)
    return _Analytic(net, names, trained, layers)


def _analytic_layers(net: nn.Module, trained: set[str], sample: Tensor) -> list[str] | None:
    """Names of the layers in order of use, if all trained tensors belong to layers with a formula, each used once."""
    found: list[str] = []
    used: list[str] = []
    handles = []
    for name, layer in net.named_modules():
        own = {f"{name}.{key}" for key, p in layer.named_parameters(recurse=False)} & trained
        if not own:
            continue
        if not _has_formula(layer) or len(own) < sum(1 for _ in layer.parameters(recurse=False)):
            return None
        found += own

        def note(layer: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            used.append(name)

        handles.append(layer.register_forward_hook(note))
    shared = len(list(net.named_parameters(remove_duplicate=False))) != len(list(net.parameters()))
    with torch.no_grad():
        net(sample)
    for handle in handles:
        handle.remove()
    return used if not shared and set(found) == trained and len(used) == len(set(used)) == len(handles) else None


def _has_formula(layer: nn.Module) -> bool:
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class _Analytic(ClippedSums):
    def __init__(self, net: nn.Module, names: list[str], trained: list[int], layers: list[str]) -> None:
        self._layers = [(name, net.get_submodule(name)) for name in layers]
        self._place = {names[number]: place for place, number in enumerate(trained)}
        self._zeros: dict[tuple[int, ...], list[Tensor]] = {}
        self._added: list[Tensor] = []
        self._seen: list[Tensor] = []
        for _, layer in self._layers:
            layer.register_forward_hook(self._hook)
        self._forward = vmap(self._one)
        self._plain = single_forward(net, names)

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
                shapes.append(torch.zeros(len(inputs), *output.shape, device=inputs.device))

            handles = [layer.register_forward_hook(note) for _, layer in self._layers]
            self._added = []
            with torch.no_grad():
                self._plain([tensor[0] for tensor in tensors], inputs[0])
            for handle in handles:
                handle.remove()
            self._zeros[key] = [zero.requires_grad_() for zero in shapes]
        return self._zeros[key]

    def __call__(
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
                _part(layer, given.detach(), out, self._masks(name, masks))
                for (name, layer), given, out in zip(self._layers, seen, outer, strict=True)
            ]
            squared = torch.stack([part.squared for part in parts]).sum(0)
            factors = clip_factors(squared, real, clip)
            sums: list[Tensor | None] = [None] * len(self._place)
            for (name, _), part in zip(self._layers, parts, strict=True):
                weight, bias = part.total(factors)
                sums[self._place[f"{name}.weight"]] = weight
                if bias is not None:
                    sums[self._place[f"{name}.bias"]] = bias
        return [total for total in sums if total is not None], losses.detach()

    def _masks(self, name: str, masks: list[Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
        if masks is None:
            return None, None
        bias = self._place.get(f"{name}.bias")
        return masks[self._place[f"{name}.weight"]], None if bias is None else masks[bias]


class _Part(ABC):
    """One layer's share: squared norms (models, batch), and the clipped sums of weight and bias."""

    squared: Tensor

    @abstractmethod
    def total(self, factors: Tensor) -> tuple[Tensor, Tensor | None]: ...


class _Outer(_Part):
    """Fully connected, one vector per sample."""

    def __init__(self, a: Tensor, g: Tensor, bias: bool, masks: tuple[Tensor | None, Tensor | None]) -> None:
        self.a, self.g, self.bias, self.masks = a, g, bias, masks
        weight, offset = masks
        g2, a2 = g.square(), a.square()
        self.squared = g2.sum(-1) * a2.sum(-1) if weight is None else (torch.bmm(g2, weight) * a2).sum(-1)
        if bias:
            self.squared = self.squared + (g2 if offset is None else g2 * offset[:, None]).sum(-1)

    def total(self, factors: Tensor) -> tuple[Tensor, Tensor | None]:
        scaled = self.g * factors[..., None]
        weight = torch.bmm(scaled.transpose(1, 2), self.a)
        return _masked(weight, self.masks[0]), _masked(scaled.sum(1), self.masks[1]) if self.bias else None


class _Whole(_Part):
    """The gradients of every sample, made: (models, batch, out, in) from (models, batch, places, out) and (…, in)."""

    def __init__(
        self, a: Tensor, g: Tensor, shape: torch.Size, bias: bool, masks: tuple[Tensor | None, Tensor | None]
    ) -> None:
        weight, offset = masks
        self.shape, self.offset = shape, offset
        self.weights = torch.matmul(g.transpose(-1, -2), a)
        if weight is not None:
            self.weights = self.weights * weight.reshape(len(weight), 1, *self.weights.shape[2:])
        self.squared = self.weights.square().sum((-1, -2))
        self.biases = _masked(g.sum(-2), None if offset is None else offset[:, None]) if bias else None
        if self.biases is not None:
            self.squared = self.squared + self.biases.square().sum(-1)

    def total(self, factors: Tensor) -> tuple[Tensor, Tensor | None]:
        models, batch = factors.shape
        flat = torch.bmm(factors[:, None], self.weights.reshape(models, batch, -1))
        bias = None if self.biases is None else torch.bmm(factors[:, None], self.biases).squeeze(1)
        return flat.reshape(models, *self.shape), bias


def _masked(value: Tensor, mask: Tensor | None) -> Tensor:
    return value if mask is None else value * mask


def _part(layer: nn.Module, a: Tensor, g: Tensor, masks: tuple[Tensor | None, Tensor | None]) -> _Part:
    models, batch = a.shape[:2]
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        if a.dim() == 3:
            return _Outer(a, g, bias, masks)
        a, g = a.reshape(models, batch, -1, a.shape[-1]), g.reshape(models, batch, -1, g.shape[-1])
        return _Whole(a, g, layer.weight.shape, bias, masks)
    assert not isinstance(layer.padding, str)
    images = a.reshape(models * batch, *a.shape[2:])
    patches = F.unfold(images, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    places = patches.reshape(models, batch, *patches.shape[1:]).transpose(-1, -2)
    return _Whole(places, g.flatten(3).transpose(-1, -2), layer.weight.shape, bias, masks)


class _Plain(ClippedSums):
    """Every sample's gradient, by ``vmap`` over models and samples."""

    def __init__(self, net: nn.Module, names: list[str], trained: list[int]) -> None:
        self._run, self._trained = single_forward(net, names), trained
        self._grads = vmap(vmap(grad(self._loss, has_aux=True), in_dims=(None, None, 0, 0)))

    def _loss(self, leaves: list[Tensor], tensors: list[Tensor], one: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        everything = list(tensors)
        for number, leaf in zip(self._trained, leaves, strict=True):
            everything[number] = leaf
        loss = cross_entropy(self._run(everything, one[None]), label[None])[0]
        return loss, loss

    def __call__(
        self,
        tensors: list[Tensor],
        masks: list[Tensor] | None,
        inputs: Tensor,
        labels: Tensor,
        real: Tensor,
        clip: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        gradients, losses = self._grads([tensors[n] for n in self._trained], tensors, inputs, labels)
        if masks is not None:
            gradients = [g * mask[:, None] for g, mask in zip(gradients, masks, strict=True)]
        squared = torch.stack([g.flatten(2).square().sum(-1) for g in gradients]).sum(0)
        factors = clip_factors(squared, real, clip)
        sums = [torch.bmm(factors[:, None], g.flatten(2)).reshape(len(g), *g.shape[2:]) for g in gradients]
        return sums, losses
