"""What every model is: a plug-in that makes the network, with weights drawn by address of the seed.

Weights come from torch's default generator at the address ``(INITIAL_WEIGHTS,)`` of the seed, so every algorithm starts
from the same model, and the global generators are left as they were.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated

from jaxtyping import Int, Shaped
from pydantic import Field
from torch import Tensor, nn

from autoflip_secure.errors import AutoflipError, InputError, UnsupportedModelError
from autoflip_secure.interfaces import Plugin
from autoflip_secure.models.memory_formats import channels_last, with_channels_last
from autoflip_secure.runtime.user_randomness import drawing_at
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
        return with_channels_last(module) if self.weights_channels_last or channels_last(module) else module

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

    @property
    def weights_channels_last(self) -> bool:
        """Whether filters lie in memory with the channels last, which processors convolve faster, one at a time."""
        return bool(getattr(self, "channels_last", False))

    def reads(self) -> tuple[Path, ...]:
        """Files that its weights come from: results are never taken up after one has changed."""
        return ()

    @abstractmethod
    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The module, weights drawn from torch's default generator."""


def image_sides(kind: str, input_shape: tuple[int, ...], least: int) -> tuple[int, int, int]:
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
