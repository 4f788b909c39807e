"""The models by name: plain chains of Conv2d, Linear, ReLU, MaxPool2d and Flatten, with weights drawn by address.

Weights are what torch draws by default (Kaiming-uniform with a = sqrt 5), at the address ``(INITIAL_WEIGHTS,)`` of the
seed, so every algorithm starts from the same model, and torch's global generator is left as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from itertools import pairwise
from math import prod
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.interfaces import Plugin
from autoflip_secure.seeds import Purpose, generator
from scenarios.models_custom import call_factory

Size = Annotated[int, Field(ge=1, le=65536)]


class Model(Plugin, ABC):
    """Makes the network that every client trains."""

    def build(self, input_shape: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
        """A new module with the initial weights of ``seed``, tried out on two samples.

        Args:
            input_shape: shape of one sample, (channels, height, width) for images.
            num_classes: number of outputs.
            seed: weights are drawn at ``(INITIAL_WEIGHTS,)`` of this seed.

        Raises:
            UnsupportedModelError: the model does not fit the input or the classes.
            InputError: a custom factory cannot be found or does not make a module.
        """
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed: that would also reseed accelerators, which are not forked here
            torch.default_generator.manual_seed(generator(seed, Purpose.INITIAL_WEIGHTS).initial_seed())
            module = self.make(input_shape, num_classes)
        check_model(module, input_shape, num_classes)
        return module

    @abstractmethod
    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The module, weights drawn from torch's default generator."""


def check_model(module: nn.Module, input_shape: tuple[int, ...], num_classes: int) -> None:
    """A trial forward pass of two samples in evaluation mode; the module and the global generator stay as they were.

    Raises:
        UnsupportedModelError: nothing to train, numbers other than float32, the pass fails, or gives anything but
            finite numbers of shape (2, num_classes).
    """
    name, samples = type(module).__name__, 2
    _check_parameters(name, module)
    trial = torch.randn(samples, *input_shape, generator=torch.Generator().manual_seed(0))
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = module(trial)
    except Exception as error:  # it is the user's module: it can fail in any way
        raise UnsupportedModelError(
            f"model {name} failed on {samples} samples of shape {tuple(input_shape)}: {type(error).__name__}: {error}; "
            f"choose a model that takes this shape"
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    if not isinstance(output, Tensor):
        raise UnsupportedModelError(f"model {name} gives a {type(output).__name__}, expected one tensor of logits")
    if output.shape != (samples, num_classes):
        raise UnsupportedModelError(
            f"model {name} gives outputs of shape {tuple(output.shape)} for {samples} samples, expected "
            f"({samples}, {num_classes}): one logit for each of the {num_classes} classes of the data; let its last "
            f"layer have {num_classes} outputs (a factory is given num_classes={num_classes})"
        )
    if not output.isfinite().all():
        raise UnsupportedModelError(f"model {name} gives NaN or infinity with its initial weights; correct them")


def _check_parameters(name: str, module: nn.Module) -> None:
    """Something to train, all of it float32."""
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.dtype != torch.float32 and (tensor.is_floating_point() or isinstance(tensor, nn.Parameter)):
            raise UnsupportedModelError(
                f"model {name}: {key} has dtype {tensor.dtype}, expected torch.float32; return the model as .float()"
            )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        why = "all its parameters are frozen" if any(True for _ in module.parameters()) else "it has no parameters"
        raise UnsupportedModelError(
            f"model {name} has nothing to train: {why}; leave requires_grad = True on some of them"
        )


class Mlp(Model):
    """Fully connected network with ReLU; inputs are flattened."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Size, ...] = Field(default=(128, 64), min_length=1, description="neurons of each hidden layer")

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Flatten, then hidden layers, then one logit per class."""
        return _chain(("flatten", nn.Flatten()), *_dense((prod(input_shape), *self.hidden), num_classes))


class Cnn(Model):
    """Small convolutional network: two 3x3 layers and one hidden dense layer; 38k parameters on 8x8 digits."""

    kind: Literal["cnn"] = "cnn"
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

    kind: Literal["custom"] = "custom"
    factory: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$",
        description="module.path:function, called with num_classes and input_shape where its signature has them",
    )
    arguments: dict[str, Any] = Field(default={}, description="further keyword arguments of the function")

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
