"""MobileNetV2 and EfficientNet-B3 as torchvision makes them, without its weights; a state dict of yours may be loaded.

torchvision is imported when one of them is made. Nothing is ever downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from autoflip_secure.scenarios.data.files import absolute
from autoflip_secure.scenarios.models.base import image_sides
from autoflip_secure.scenarios.models.norms import Normalised
from autoflip_secure.scenarios.models.state_dicts import load_weights

Multiple = Annotated[float, Field(gt=0, le=16)]
Share = Annotated[float, Field(ge=0, lt=1)]
WEIGHTS = "a state dict to begin with (.safetensors, or .pt read with weights_only); an output layer for other classes \
is left out of it; null = drawn"


class _Pretrainable(Normalised):
    """A network of torchvision."""

    weights: Path | None = Field(default=None, description=WEIGHTS)

    def reads(self) -> tuple[Path, ...]:
        """The state dict."""
        return () if self.weights is None else (absolute(self.weights),)

    def _begin(self, module: nn.Module, channels: int) -> nn.Module:
        """The first convolution takes ``channels``; weights are loaded."""
        first = next(name for name, part in module.named_modules() if isinstance(part, nn.Conv2d))
        if channels != 3:
            owner, _, key = first.rpartition(".")
            setattr(module.get_submodule(owner), key, _other_channels(module.get_submodule(first), channels))
        if self.weights is not None:
            load_weights(module, absolute(self.weights), "classifier.1.")
        return module


class MobileNetV2(_Pretrainable):
    """MobileNetV2 as torchvision makes it: 2,236,682 parameters for 10 classes, 2,480,072 for 200."""

    kind: Literal["mobilenet_v2"] = "mobilenet_v2"
    source: ClassVar[str] = "Sandler et al. 2018"
    width: Multiple = Field(default=1.0, description="multiple of the channels of every layer")
    dropout: Share = Field(default=0.2, description="before the output layer")

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """torchvision's module; grey images have a first convolution of their own."""
        from torchvision.models import mobilenet_v2

        channels, _, _ = image_sides(self.kind, input_shape, 8)
        module = mobilenet_v2(
            weights=None, num_classes=num_classes, width_mult=self.width, dropout=self.dropout,
            norm_layer=self.norm_layer(),
        )  # fmt: skip
        return self._begin(module, channels)


class EfficientNetB3(_Pretrainable):
    """EfficientNet-B3 as torchvision makes it: 10,711,602 parameters for 10 classes."""

    kind: Literal["efficientnet_b3"] = "efficientnet_b3"
    source: ClassVar[str] = "Tan and Le 2019: EfficientNet-B0, 1.2 times as wide and 1.4 times as deep"
    width: Multiple = Field(default=1.0, description="multiple of the channels of every layer, beside B3's own 1.2")
    depth: Multiple = Field(default=1.0, description="multiple of the blocks of every stage, beside B3's own 1.4")
    dropout: Share = Field(default=0.3, description="before the output layer")
    drop_path: Share = Field(
        default=0.2, description="chance that the last block is skipped for a sample (stochastic depth); growing to it"
    )

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """B0's stages, scaled; grey images have a first convolution of their own."""
        from torchvision.models.efficientnet import EfficientNet, MBConvConfig

        channels, _, _ = image_sides(self.kind, input_shape, 8)
        stages = [
            MBConvConfig(*stage, width_mult=1.2 * self.width, depth_mult=1.4 * self.depth) for stage in _B0
        ]  # fmt: skip
        module = EfficientNet(
            stages, self.dropout, self.drop_path, num_classes=num_classes, norm_layer=self._norm(), last_channel=None
        )
        return self._begin(module, channels)

    def _norm(self) -> Any:
        return self.norm_layer()


_B0 = (  # expansion, kernel, stride, channels in and out, blocks
    (1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1),
)  # fmt: skip


def _other_channels(layer: Any, channels: int) -> nn.Conv2d:
    """The same convolution for images of ``channels`` channels, weights drawn as torchvision draws them."""
    other = nn.Conv2d(
        channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=layer.bias is not None
    )
    nn.init.kaiming_normal_(other.weight, mode="fan_out")
    return other
