r"""The operations of a chain on images, channels last: convolutions as products of matrices, a model each, and pools.

A row of A is the patch that the kernel sees: row, column and channel of the kernel after each other. Where a pool
follows, the places of one of its windows are apart: (models, batch, places of a window, height, width, channels), so
that its maximum is one over whole blocks of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from autoflip_secure.training.chain.layers import Affine, Operation

_ATEN: Any = torch.ops.aten
Sides = tuple[int, int]
FEW = 8
"""Channels below which patches are looked up number by number; with more, whole runs of them are copied."""


@dataclass(frozen=True)
class Convolution(Affine):
    """``nn.Conv2d`` without groups, padded by zeros.

    ``window``: of the pool that follows; (1, 1): none does.
    """

    weight: int
    bias: int | None
    image: tuple[int, int, int]  # height, width, channels of what comes in
    kernel: Sides
    stride: Sides
    padding: Sides
    dilation: Sides
    window: Sides = (1, 1)

    @property
    def sides(self) -> Sides:
        """Of what comes out."""
        high, wide = (
            (side - d * (k - 1) - 1) // s + 1
            for side, d, k, s in zip(self._frame, self.dilation, self.kernel, self.stride, strict=True)
        )
        return high, wide

    @property
    def _frame(self) -> Sides:
        """Sides of the image with its padding."""
        return self.image[0] + 2 * self.padding[0], self.image[1] + 2 * self.padding[1]

    def _steps(self, row: int, column: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Size and strides of the patches in the order of A, where a row and a column of the frame are so far apart."""
        (high, wide), (up, across), (down, right) = self.sides, self.window, self.stride
        size = (up, across, high // up, wide // across, *self.kernel)
        first = (down * row, right * column, down * up * row, right * across * column)
        return size, (*first, self.dilation[0] * row, self.dilation[1] * column)

    @cached_property
    def _table(self) -> Tensor:
        """For every number of a patch and patch after patch, its place in the frame."""
        high, wide = self._frame
        return torch.arange(high * wide).as_strided(*self._steps(wide, 1)).flatten()

    def _inside(self, frame: Tensor) -> Tensor:
        """The image in its padding."""
        (high, wide, _), (above, left) = self.image, self.padding
        return frame[:, :, above : above + high, left : left + wide]

    def inputs(self, x: Tensor) -> Tensor:
        """Patches."""
        (models, batch), channels = x.shape[:2], self.image[2]
        if any(self.padding):
            frame = x.new_zeros(models, batch, *self._frame, channels)
            self._inside(frame).copy_(x)
            x = frame
        if channels < FEW:
            seen = x.reshape(models * batch, -1, channels).index_select(1, self._table)
        else:
            (size, steps), strides = self._steps(*x.stride()[2:4]), x.stride()
            seen = x.as_strided(
                (models, batch, *size, channels), (*strides[:2], *steps, strides[4]), x.storage_offset()
            )
        return seen.reshape(models, -1, prod(self.kernel) * channels)

    def matrix(self, weight: Tensor) -> Tensor:
        """(models, filters, channels, *kernel) with the filters last."""
        return weight.permute(0, 3, 4, 2, 1).flatten(1, 3)

    def gradient(self, matrix: Tensor) -> Tensor:
        """Filters and channels first."""
        models, _, filters = matrix.shape
        return matrix.view(models, *self.kernel, -1, filters).permute(0, 4, 3, 1, 2)

    def result(self, rows: Tensor, x: Tensor) -> Tensor:
        """Images, or those with windows apart."""
        models, batch = x.shape[:2]
        (high, wide), (up, across) = self.sides, self.window
        if self.window == (1, 1):
            return rows.view(models, batch, high, wide, -1)
        return rows.view(models, batch, up * across, high // up, wide // across, -1)

    def rows(self, grad: Tensor) -> Tensor:
        """A row a place."""
        return grad.reshape(len(grad), -1, grad.shape[-1])

    def back(self, rows: Tensor, matrix: Tensor, batch: int) -> Tensor:
        """Of the images: what patches have in common is added up, in the order of the table."""
        models, channels = len(rows), self.image[2]
        patches = torch.bmm(rows, matrix.transpose(1, 2))
        frame = rows.new_zeros(models, batch, *self._frame, channels)
        seen = patches.view(models * batch, -1, channels)
        frame.view(models * batch, -1, channels).index_add_(1, self._table, seen)
        return self._inside(frame).contiguous()

    def of_samples(self, rows: Tensor, batch: int) -> Tensor:
        """(models, batch, places, width)."""
        return rows.view(len(rows), batch, -1, rows.shape[-1])


@dataclass(frozen=True)
class Pool(Operation):
    """``nn.MaxPool2d`` over windows side by side that fill the image; ``apart``: they come apart already."""

    window: Sides
    apart: bool

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The largest of every window."""
        if not self.apart:
            models, batch, high, wide, channels = x.shape
            up, across = self.window
            windows = x.reshape(models, batch, high // up, up, wide // across, across, channels)
            x = windows.permute(0, 1, 3, 5, 2, 4, 6).flatten(2, 3)
        best = x.amax(2)
        return best, (x, best)

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """To the first place of a window that has its largest number, as in torch.

        A ReLU may have set the largest to 0 since; then no place has it, and there is no gradient either.
        """
        x, best = kept
        found, rest, below = torch.empty_like(x), grad, -torch.finfo(x.dtype).tiny
        last = prod(self.window) - 1
        for place, (one, part) in enumerate(zip(x.unbind(2), found.unbind(2), strict=True)):
            _ATEN.threshold_backward.grad_input(rest, one - best, below, grad_input=part)
            rest = rest - part if place < last else rest
        if self.apart:
            return found
        models, batch, _, high, wide, channels = found.shape
        (up, across) = self.window
        windows = found.view(models, batch, up, across, high, wide, channels).permute(0, 1, 4, 2, 5, 3, 6)
        return windows.reshape(models, batch, high * up, wide * across, channels)


@dataclass(frozen=True)
class ChannelsLast(Operation):
    """Of the inputs themselves: (models, batch, channels, height, width) as seen by the others."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A view."""
        return x.permute(0, 1, 3, 4, 2), ()

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """A view."""
        return grad.permute(0, 1, 4, 2, 3)


@dataclass(frozen=True)
class FlattenImages(Operation):
    """Features in torch's order: channel, row, column."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(models, batch, features)."""
        return x.permute(0, 1, 4, 2, 3).flatten(2), (x,)

    def backward(self, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """Images."""
        models, batch, high, wide, channels = kept[0].shape
        return grad.reshape(models, batch, channels, high, wide).permute(0, 1, 3, 4, 2).contiguous()
