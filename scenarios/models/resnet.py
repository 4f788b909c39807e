r"""Residual networks of basic blocks: ResNet-20 for small images, ResNet-18 for both kinds of stem.

.. math:: y = \mathrm{relu}(F(x) + S(x))

F is two 3x3 convolutions, each with a normalisation; S is the identity, or a 1x1 convolution with a normalisation where
the shape changes (He et al.'s option B, which leaves every channel to be pruned).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from autoflip_secure.scenarios.models.base import Size, image_sides
from autoflip_secure.scenarios.models.norms import Normalised

Norm = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = norm(width)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, height, width) -> (n, width, height / stride, width / stride)."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        out: Tensor = self.relu2(inner + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """A stem, stages of basic blocks, the mean over positions, one dense layer."""

    def __init__(self, stem: nn.Module, inputs: int, stages: tuple[tuple[int, int], ...], classes: int, norm: Norm):
        """``stages``: (width, blocks) of each; all but the first halve the sides."""
        super().__init__()
        blocks: list[nn.Module] = []
        for stage, (width, count) in enumerate(stages):
            for number in range(count):
                blocks.append(BasicBlock(inputs, width, 2 if stage and not number else 1, norm))
                inputs = width
        self.stem, self.blocks = stem, nn.Sequential(*blocks)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.output = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> logits (n, classes)."""
        logits: Tensor = self.output(self.flatten(self.pool(self.blocks(self.stem(x)))))
        return logits


class ResNet20(Normalised):
    """ResNet-20 for small images: three stages of three basic blocks; 272,474 parameters on CIFAR-10."""

    kind: Literal["resnet20"] = "resnet20"
    source: ClassVar[str] = "He et al. 2016, section 4.2, with 1x1 convolutions as shortcuts (option B)"
    width: Size = Field(default=16, description="channels of the first stage, doubled in each of the next two")
    blocks: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="basic blocks of a stage: the network has 6 n + 2 layers"
    )

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """A 3x3 stem of ``width`` channels, then stages at full, half and a quarter of the size."""
        channels, _, _ = image_sides(self.kind, input_shape, 4)
        norm, stages = self.norm_layer(), tuple((self.width << stage, self.blocks) for stage in range(3))
        return ResNet(_small_stem(channels, self.width, norm), self.width, stages, num_classes, norm)


class ResNet18(Normalised):
    """ResNet-18: four stages of two basic blocks; 11,173,962 parameters on CIFAR-10, 11,689,512 as for ImageNet."""

    kind: Literal["resnet18"] = "resnet18"
    source: ClassVar[str] = "He et al. 2016, table 1"
    width: Size = Field(default=64, description="channels of the first stage, doubled in each of the next three")
    stem: Literal["small", "imagenet"] = Field(
        default="small",
        description="3x3 without a pool, for images of 32x32 or so, or 7x7 with strides and a pool, as for ImageNet",
    )

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The stem, then stages of which three halve the sides."""
        channels, _, _ = image_sides(self.kind, input_shape, 8 if self.stem == "small" else 32)
        norm, stages = self.norm_layer(), tuple((self.width << stage, 2) for stage in range(4))
        stem = _small_stem if self.stem == "small" else _imagenet_stem
        return ResNet(stem(channels, self.width, norm), self.width, stages, num_classes, norm)


def _small_stem(channels: int, width: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), norm(width), nn.ReLU())


def _imagenet_stem(channels: int, width: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 7, 2, 3, bias=False), norm(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
