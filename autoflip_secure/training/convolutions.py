r"""Convolutions of many models whose bits do not depend on how many models there are, or on which one comes where.

``vmap`` turns the convolutions of a stack of models into one with as many groups as there are models. Libraries choose
their algorithm by the total number of channels, so a model's last bits change with the height of its stack (seen on
AVX2: one input channel and eight filters, five models against eight). Here every call of the library has the same
shape, whatever the stack: :data:`TOGETHER` models with small images at a time, the last call filled up with copies, or
one model where a model's images alone are work enough (:data:`LARGE`).

:func:`unfolded` is the same convolution as products of matrices. It is slower, but made of operations that every
transform of ``torch.func`` composes, and it rounds like any other product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

from autoflip_secure.training.buckets import filled

TOGETHER = 4
"""Models in one call: fewer cost more calls, more cost more copies beside a lone model (``benchmarks/kernels.py``)."""

LARGE = 50_000
"""Numbers that go in and come out of one model's convolution, from which on a call has one model: there one
call a model is as quick as a grouped one (``benchmarks/kernels.py``)."""


@dataclass(frozen=True)
class Geometry:
    """Everything about a convolution but its tensors: one entry per spatial dimension, and groups within a model."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def size(self, x: Tensor, weight: Tensor) -> list[int]:
        """Sides of the output: of tensors whose last dimensions are the image's and the kernel's."""
        sides = zip(x.shape[-len(self.stride) :], weight.shape[-len(self.stride) :], strict=True)
        return [
            (side + 2 * p - d * (kernel - 1) - 1) // s + 1
            for (side, kernel), p, d, s in zip(sides, self.padding, self.dilation, self.stride, strict=True)
        ]

    def call(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (batch, channels, *image), weight (filters, channels / groups, *kernel), bias (filters,)."""
        none = [0] * len(self.stride)
        result: Tensor = torch.ops.aten.convolution(
            *(x, weight, bias, self.stride, self.padding, self.dilation, False, none, self.groups)
        )
        return result

    def gradients(self, grad: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        """Of input, weight and bias, as far as ``wanted``."""
        none = [0] * len(self.stride)
        return list(
            torch.ops.aten.convolution_backward(
                *(grad, x, weight, [len(weight)], self.stride, self.padding, self.dilation, False, none, self.groups),
                list(wanted),
            )
        )


Convolve = Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor]


def same_calls(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """A convolution inside ``vmap`` over models, as calls of one shape; outside of it, an ordinary convolution."""
    result: Tensor = _OfOneModel.apply(x, weight, bias, geometry)
    return result


def unfolded(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """A convolution in one or two dimensions as one product of matrices a sample and group."""
    if len(geometry.stride) == 1:
        flat = Geometry((1, *geometry.stride), (0, *geometry.padding), (1, *geometry.dilation), geometry.groups)
        return unfolded(x.unsqueeze(-2), weight.unsqueeze(-2), bias, flat).squeeze(-2)
    kernel, groups = weight.shape[2:], geometry.groups
    patches = F.unfold(x, kernel, geometry.dilation, geometry.padding, geometry.stride)  # (batch, rows, places)
    filters = weight.reshape(groups, len(weight) // groups, -1)
    sums = torch.matmul(filters, patches.reshape(len(x), groups, -1, patches.shape[-1]))  # (…, places)
    out = sums.reshape(len(x), len(weight), *geometry.size(x, weight))
    return out if bias is None else out + bias[:, None, None]


class Convolving(TorchFunctionMode):
    """While it is entered, every convolution that a forward asks torch for is done by ``convolve``.

    Transposed ones, and dimensions that ``convolve`` was not told, are left to torch.
    """

    def __init__(self, convolve: Convolve, dimensions: tuple[int, ...]) -> None:
        super().__init__()
        self._convolve = convolve
        self.found = False  # whether there was a convolution to do
        functions = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
        self._spatial: dict[Any, int] = {functions[d]: d for d in dimensions}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        dimensions = self._spatial.get(func)
        if dimensions is None:
            return func(*args, **(kwargs or {}))
        self.found = True
        return self._do(dimensions, *args, **(kwargs or {}))

    def _do(
        self,
        dimensions: int,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        lone = input.dim() == dimensions + 1  # one sample without a batch dimension
        x = input.unsqueeze(0) if lone else input
        geometry = Geometry(_each(stride, dimensions), (), _each(dilation, dimensions), groups)
        if isinstance(padding, str):
            x, sides = _padded(x, weight, geometry, padding)
        else:
            sides = _each(padding, dimensions)
        out = self._convolve(x, weight, bias, replace(geometry, padding=sides))
        return out.squeeze(0) if lone else out


def _each(value: Any, dimensions: int) -> tuple[int, ...]:
    sides = (value,) if isinstance(value, int) else tuple(value)
    return sides * dimensions if len(sides) == 1 else sides


def _padded(x: Tensor, weight: Tensor, geometry: Geometry, word: str) -> tuple[Tensor, tuple[int, ...]]:
    """``valid`` and ``same`` in numbers; what cannot be the same on both sides is put around the input."""
    if word == "valid":
        return x, (0,) * len(geometry.dilation)
    total = [d * (k - 1) for d, k in zip(geometry.dilation, weight.shape[2:], strict=True)]
    if any(t % 2 for t in total):  # torch: the extra one comes after
        x = F.pad(x, [t % 2 * end for t in reversed(total) for end in (0, 1)])
    return x, tuple(t // 2 for t in total)


class _OfOneModel(torch.autograd.Function):
    """Only its rule for ``vmap`` matters: there all models are at hand."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        return _OfAll.apply(x[None], weight[None], None if bias is None else bias[None], geometry)[0]  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
    ) -> tuple[Tensor, int]:
        def models_first(tensor: Tensor, dim: int | None) -> Tensor:
            return tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

        offset = None if bias is None else models_first(bias, dims[2])
        return _OfAll.apply(models_first(x, dims[0]), models_first(weight, dims[1]), offset, geometry), 0


class _OfAll(torch.autograd.Function):
    """x (models, batch, …), weight (models, filters, …), bias (models, filters) -> (models, batch, filters, …)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        """The outputs, a call of one shape after the other."""
        calls = _Calls(x, weight, geometry)
        inputs, filters = calls.side_by_side(x), calls.stacked(weight)
        offsets = [None] * len(filters) if bias is None else calls.stacked(bias).unbind()
        ctx.save_for_backward(inputs, filters)
        ctx.calls, ctx.biased = calls, bias is not None
        one = calls.geometry.call
        return calls.apart([one(*each) for each in zip(inputs.unbind(), filters.unbind(), offsets, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs of :meth:`forward`; None where none is wanted."""
        calls: _Calls = ctx.calls
        inputs, filters = (tensor.unbind() for tensor in ctx.saved_tensors)
        wanted = [*ctx.needs_input_grad[:2], ctx.biased and ctx.needs_input_grad[2]]
        one = calls.geometry.gradients
        found = [one(*each, wanted) for each in zip(calls.side_by_side(grad).unbind(), inputs, filters, strict=True)]
        images, weights, offsets = zip(*found, strict=True)
        return (
            calls.apart(images) if wanted[0] else None,
            calls.whole(weights) if wanted[1] else None,
            calls.whole(offsets) if wanted[2] else None,
            None,
        )


class _Calls:
    """Calls of one shape: how the tensors of a stack of models go in and come out."""

    def __init__(self, x: Tensor, weight: Tensor, geometry: Geometry) -> None:
        out = x.shape[1] * weight.shape[1] * prod(geometry.size(x, weight))
        self.models = len(weight)
        self.together = TOGETHER if x[0].numel() + out < LARGE else 1
        if x.device.type != "cpu":  # a GPU wants few calls, and promises no bits
            self.together = self.models
        self.geometry = replace(geometry, groups=geometry.groups * self.together)

    def _calls(self, tensor: Tensor) -> Tensor:
        """(models, …) -> (calls, models of a call, …), the last call filled up with copies."""
        tensor = filled(tensor, -(-self.models // self.together) * self.together)
        return tensor.reshape(-1, self.together, *tensor.shape[1:])

    def side_by_side(self, images: Tensor) -> Tensor:
        """(models, batch, channels, …) -> (calls, batch, models of a call · channels, …)."""
        return self._calls(images).transpose(1, 2).flatten(2, 3).contiguous()

    def stacked(self, weights: Tensor) -> Tensor:
        """(models, filters, …) -> (calls, models of a call · filters, …)."""
        return self._calls(weights).flatten(1, 2).contiguous()

    def apart(self, results: Sequence[Tensor]) -> Tensor:
        """(batch, models of a call · channels, …) of every call -> (models, batch, channels, …).

        Always laid out in this order: what comes next may round by how its input lies in memory. Never a view, which
        nobody could change in place, as ``nn.ReLU(inplace=True)`` does.
        """
        parts = [r.reshape(len(r), self.together, -1, *r.shape[2:]).transpose(0, 1) for r in results]
        parts[-1] = parts[-1][: self.models - (len(parts) - 1) * self.together]
        return torch.cat(parts).contiguous()

    def whole(self, results: Sequence[Tensor]) -> Tensor:
        """(models of a call · filters, …) of every call -> (models, filters, …)."""
        rows = torch.cat(list(results))
        return rows.reshape(-1, len(results[0]) // self.together, *rows.shape[1:])[: self.models]
