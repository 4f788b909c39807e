"""Whether filters lie in memory with their channels last, which processors convolve faster, one model at a time."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(net: nn.Module) -> bool:
    """Whether filters of ``net`` lie with their channels last; its inputs then do too."""
    return any(
        p.dim() == 4 and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last)
        for p in net.parameters()
    )


def with_channels_last(module: nn.Module) -> nn.Module:
    """``module`` with the channels of its filters last where that can be, else first.

    It cannot be with 1x1 convolutions that have strides and two to seven inputs: on processors with AVX2 and no more,
    oneDNN 3.13 (torch 2.15) writes beyond its memory in their backward pass, and the process dies or computes nonsense.
    """
    thin = any(
        isinstance(one, nn.Conv2d) and one.kernel_size == (1, 1) and one.stride != (1, 1) and 1 < one.in_channels < 8
        for one in module.modules()
    )
    return module.to(memory_format=torch.contiguous_format if thin else torch.channels_last)
