"""All models by name."""

from __future__ import annotations

from autoflip_secure.scenarios.models.base import Model
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, Custom, FemnistCnn, McMahanCnn, Mlp
from autoflip_secure.scenarios.models.resnet import ResNet18, ResNet20
from autoflip_secure.scenarios.models.text import Lstm, Transformer
from autoflip_secure.scenarios.models.vision import EfficientNetB3, MobileNetV2

MODELS: tuple[type[Model], ...] = (
    Mlp, Cnn, McMahanCnn, Cnn6, FemnistCnn, ResNet20, ResNet18, MobileNetV2, EfficientNetB3, Lstm, Transformer, Custom,
)  # fmt: skip
