"""The models by name: plain chains of Conv2d, Linear, ReLU, MaxPool2d and Flatten, with weights drawn by address.

Weights are what torch draws by default (Kaiming-uniform with a = sqrt 5).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from math import prod
from typing import Any, ClassVar, Literal

from jaxtyping import Int
from pydantic import Field
from torch import Tensor, nn

from autoflip_secure.scenarios.models.base import Model, Size, image_sides
from autoflip_secure.scenarios.models.custom import call_factory

__all__ = ["Cnn", "Cnn6", "Custom", "FemnistCnn", "McMahanCnn", "Mlp", "Model"]


LAST = (
    "filters in memory with the channels last: 1.2 to 1.3 times as fast where clients train one at a time on a "
    "processor; other last bits"
)


class Mlp(Model):
    """Fully connected network with ReLU; inputs are flattened."""

    kind: Literal["mlp"] = "mlp"
    source: ClassVar[str] = "common baseline"
    hidden: tuple[Size, ...] = Field(default=(128, 64), min_length=1, description="neurons of each hidden layer")

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Flatten, then hidden layers, then one logit per class."""
        return _chain(("flatten", nn.Flatten()), *_dense((prod(input_shape), *self.hidden), num_classes))


class Cnn(Model):
    """Small convolutional network: two 3x3 layers and one hidden dense layer; 38k parameters on 8x8 digits."""

    kind: Literal["cnn"] = "cnn"
    source: ClassVar[str] = "common baseline"
    width: Size = Field(default=16, description="filters of the first layer; the second has twice as many")
    hidden: Size = Field(default=64, description="neurons of the hidden dense layer")
    channels_last: bool = Field(default=False, description=LAST)

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """A 2x2 pool follows a convolution while both sides are at least 8, so that small images keep some extent."""
        channels, height, width = image_sides(self.kind, input_shape, 1)
        layers: list[tuple[str, nn.Module]] = []
        for number, filters in enumerate((self.width, 2 * self.width), 1):
            layers += _convolution(str(number), channels, filters, 3)
            channels = filters
            if min(height, width) >= 8:
                layers.append((f"pool{number}", nn.MaxPool2d(2)))
                height, width = height // 2, width // 2
        return _chain(
            *layers, ("flatten", nn.Flatten()), *_dense((channels * height * width, self.hidden), num_classes)
        )


class McMahanCnn(Model):
    """McMahan et al. 2017: 5x5 convolutions of 32 and 64 filters, 512 dense; 1,663,370 parameters on MNIST."""

    kind: Literal["mcmahan_cnn"] = "mcmahan_cnn"
    source: ClassVar[str] = "McMahan et al. 2017, section 3"
    width: Size = Field(default=32, description="filters of the first layer; the second has twice as many")
    hidden: Size = Field(default=512, description="neurons of the hidden dense layer")
    channels_last: bool = Field(default=False, description=LAST)

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Padded convolutions, each followed by a 2x2 pool."""
        return _two_convolutions(image_sides(self.kind, input_shape, 4), self.width, self.hidden, num_classes)


class FemnistCnn(Model):
    """LEAF's CNN for FEMNIST: 5x5 convolutions of 32 and 64 filters, 2048 dense; 6,603,710 parameters, 62 classes."""

    kind: Literal["femnist_cnn"] = "femnist_cnn"
    source: ClassVar[str] = "Caldas et al. 2018 (LEAF), models/femnist/cnn.py"
    width: Size = Field(default=32, description="filters of the first layer; the second has twice as many")
    hidden: Size = Field(default=2048, description="neurons of the hidden dense layer")
    channels_last: ClassVar[bool] = True

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Padded convolutions, each followed by a 2x2 pool."""
        return _two_convolutions(image_sides(self.kind, input_shape, 4), self.width, self.hidden, num_classes)


class Cnn6(Model):
    """Six 3x3 convolutions in three pooled stages and one hidden dense layer, for 32x32 images; 551k parameters."""

    kind: Literal["cnn6"] = "cnn6"
    source: ClassVar[str] = "this project, in the style of Simonyan and Zisserman 2015 (VGG)"
    width: Size = Field(default=32, description="filters of the first stage, doubled in each of the next two")
    hidden: Size = Field(default=128, description="neurons of the hidden dense layer")
    channels_last: bool = Field(default=False, description=LAST)

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Stages of two padded convolutions and a 2x2 pool."""
        channels, height, width = image_sides(self.kind, input_shape, 8)
        layers: list[tuple[str, nn.Module]] = []
        for stage in range(3):
            filters = self.width * 2**stage
            layers += _convolution(str(2 * stage + 1), channels, filters, 3)
            layers += _convolution(str(2 * stage + 2), filters, filters, 3)
            layers.append((f"pool{stage + 1}", nn.MaxPool2d(2)))
            channels = filters
        flat = channels * (height // 8) * (width // 8)
        return _chain(*layers, ("flatten", nn.Flatten()), *_dense((flat, self.hidden), num_classes))


class Custom(Model):
    """Your own nn.Module, made by a function or class that Python can import."""

    foreign: ClassVar[bool] = True
    kind: Literal["custom"] = "custom"
    source: ClassVar[str] = "your own code"
    factory: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$",
        description="module.path:function, called with num_classes and input_shape where its signature has them",
    )
    arguments: dict[str, Any] = Field(default={}, description="further keyword arguments of the function")

    def users_code(self) -> tuple[str, str, str]:
        """The function."""
        return "factory", self.factory, self.factory

    def takes_whole_numbers(self, rows: Int[Tensor, "rows ..."], num_classes: int, seed: int) -> bool:
        """As a model from outside."""
        return self._tried_on_whole_numbers(rows, num_classes, seed)

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """What the factory returns."""
        return call_factory(self.factory, {"num_classes": num_classes, "input_shape": input_shape}, self.arguments)


def _chain(*layers: tuple[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _two_convolutions(sides: tuple[int, int, int], width: int, hidden: int, num_classes: int) -> nn.Sequential:
    channels, height, wide = sides
    return _chain(
        *_convolution("1", channels, width, 5),
        ("pool1", nn.MaxPool2d(2)),
        *_convolution("2", width, 2 * width, 5),
        ("pool2", nn.MaxPool2d(2)),
        ("flatten", nn.Flatten()),
        *_dense((2 * width * (height // 4) * (wide // 4), hidden), num_classes),
    )


def _dense(sizes: tuple[int, ...], num_classes: int) -> list[tuple[str, nn.Module]]:
    layers: list[tuple[str, nn.Module]] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layers += [(f"dense{number}", nn.Linear(inputs, outputs)), (f"dense_relu{number}", nn.ReLU())]
    return [*layers, ("output", nn.Linear(sizes[-1], num_classes))]


def _convolution(number: str, channels: int, filters: int, kernel: int) -> list[tuple[str, nn.Module]]:
    layer = nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
    return [(f"conv{number}", layer), (f"conv_relu{number}", nn.ReLU())]
