"""Which normalisation a convolutional network has: over the batch, or over groups of channels of one sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from autoflip_secure.scenarios.models.base import Model


class Normalised(Model):
    """A model whose normalisation is chosen.

    BatchNorm keeps running statistics, which travel with the weights, and cannot train privately (DP-SGD) or on one
    sample. GroupNorm (Wu and He 2018) has neither trouble; a norm group is one unit of its layer.
    """

    channels_last: ClassVar[bool] = True
    norm: Literal["batch", "group"] = Field(
        default="batch", description="BatchNorm, or GroupNorm, which also trains with DP-SGD and on single samples"
    )
    group_size: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=8, description="with norm: group: channels of a norm group, at most; they are pruned together"
    )

    def norm_layer(self) -> Callable[[int], nn.Module]:
        """Number of channels -> their normalisation."""
        return nn.BatchNorm2d if self.norm == "batch" else self._group_norm

    def _group_norm(self, channels: int) -> nn.Module:
        """As few groups as ``group_size`` allows, all of one size."""
        groups = -(-channels // self.group_size)
        while channels % groups:
            groups += 1
        return nn.GroupNorm(groups, channels)
