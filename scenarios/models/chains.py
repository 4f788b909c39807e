"""The models by name: plain chains of Conv2d, Linear, ReLU, MaxPool2d and Flatten, with weights drawn by address.

Weights are what torch draws by default (Kaiming-uniform with a = sqrt 5), at the address ``(INITIAL_WEIGHTS,)`` of the
seed, so every algorithm starts from the same model, and the global generators are left as they were.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from itertools import pairwise
from math import prod
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Int, Shaped
from pydantic import Field
from torch import Tensor, nn

from autoflip_secure.errors import AutoflipError, InputError, UnsupportedModelError
from autoflip_secure.interfaces import Plugin
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.scenarios.models.custom import call_factory
from autoflip_secure.scenarios.models.trial import check_model
from autoflip_secure.seeds import Purpose

Size = Annotated[int, Field(ge=1, le=65536)]


class Model(Plugin, ABC):
    """Makes the network that every client trains."""

    def build(self, rows: Shaped[Tensor, "rows ..."], num_classes: int, seed: int) -> nn.Module:
        """A new module with the initial weights of ``seed``, tried out on ``rows``.

        Args:
            rows: two or more inputs of the data that it is for, each (channels, height, width) for images. Lazy layers
                take their shape from them.
            num_classes: number of outputs.
            seed: whatever making and trying it draws from a global generator is at ``(INITIAL_WEIGHTS,)`` of this seed.

        Raises:
            UnsupportedModelError: the model does not fit the input or the classes.
            InputError: a custom factory cannot be found or does not make a module.
        """
        with drawing_at(seed, Purpose.INITIAL_WEIGHTS):
            make = self._foreign_module if self.foreign else self.make
            module = make(tuple(rows.shape[1:]), num_classes)
            check_model(module, rows, num_classes)
        return module

    def _foreign_module(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """What code from outside makes, which can fail in any way, and give anything."""
        kind = str(getattr(self, "kind", type(self).__name__))
        try:
            module: object = self.make(input_shape, num_classes)
        except AutoflipError:
            raise
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {error}"
            raise InputError(
                f"model.kind = {kind!r}: make failed with {why}; mend it, or change its options"
            ) from error
        if not isinstance(module, nn.Module):
            why = f"make gave a {type(module).__name__}"
            raise InputError(f"model.kind = {kind!r}: {why}, expected a torch.nn.Module; let it return the model")
        return module

    def takes_whole_numbers(self, rows: Int[Tensor, "rows ..."], num_classes: int, seed: int) -> bool:
        """Whether the model is given inputs of whole numbers as such (int64), or as float32.

        The built-in ones reckon with what numbers count. One from outside gets token ids as they are, unless it fails
        on them and takes float32.

        Args:
            rows: whole numbers of the data.
            num_classes: number of outputs.
            seed: as for :meth:`build`.
        """
        return self.foreign and self._tried_on_whole_numbers(rows, num_classes, seed)

    def _tried_on_whole_numbers(self, rows: Int[Tensor, "rows ..."], num_classes: int, seed: int) -> bool:
        try:
            self.build(rows, num_classes, seed)
        except UnsupportedModelError:
            try:
                self.build(rows.float(), num_classes, seed)
            except UnsupportedModelError:
                return True  # what it says of whole numbers is to the point
            return False
        return True

    @abstractmethod
    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The module, weights drawn from torch's default generator."""


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

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """A 2x2 pool follows a convolution while both sides are at least 8, so that small images keep some extent."""
        channels, height, width = _image(self.kind, input_shape, 1)
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

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Padded convolutions, each followed by a 2x2 pool."""
        channels, height, width = _image(self.kind, input_shape, 4)
        return _chain(
            *_convolution("1", channels, 32, 5),
            ("pool1", nn.MaxPool2d(2)),
            *_convolution("2", 32, 64, 5),
            ("pool2", nn.MaxPool2d(2)),
            ("flatten", nn.Flatten()),
            *_dense((64 * (height // 4) * (width // 4), 512), num_classes),
        )


class Cnn6(Model):
    """Six 3x3 convolutions in three pooled stages and one hidden dense layer, for 32x32 images; 551k parameters."""

    kind: Literal["cnn6"] = "cnn6"
    source: ClassVar[str] = "this project, in the style of Simonyan and Zisserman 2015 (VGG)"
    width: Size = Field(default=32, description="filters of the first stage, doubled in each of the next two")
    hidden: Size = Field(default=128, description="neurons of the hidden dense layer")

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Stages of two padded convolutions and a 2x2 pool."""
        channels, height, width = _image(self.kind, input_shape, 8)
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


def _dense(sizes: tuple[int, ...], num_classes: int) -> list[tuple[str, nn.Module]]:
    layers: list[tuple[str, nn.Module]] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layers += [(f"dense{number}", nn.Linear(inputs, outputs)), (f"dense_relu{number}", nn.ReLU())]
    return [*layers, ("output", nn.Linear(sizes[-1], num_classes))]


def _convolution(number: str, channels: int, filters: int, kernel: int) -> list[tuple[str, nn.Module]]:
    layer = nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
    return [(f"conv{number}", layer), (f"conv_relu{number}", nn.ReLU())]


def _image(kind: str, input_shape: tuple[int, ...], least: int) -> tuple[int, int, int]:
    """The sides of an image, or an error when the input is none, or one too small for the pools."""
    if len(input_shape) != 3:
        raise UnsupportedModelError(
            f"{kind}: samples have shape {tuple(input_shape)}, expected an image (channels, height, width); "
            f"use mlp instead"
        )
    channels, height, width = input_shape
    if min(height, width) < least:
        raise UnsupportedModelError(
            f"{kind}: images of {height} x {width} are too small, its pools need at least {least} x {least}; "
            f"use cnn or mlp"
        )
    return channels, height, width


MODELS: tuple[type[Model], ...] = (Mlp, Cnn, McMahanCnn, Cnn6, Custom)
