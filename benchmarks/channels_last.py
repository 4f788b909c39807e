"""Channels last against channels first in the sequential trainer: seconds of processor time for one client's update.

python benchmarks/channels_last.py
"""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.base import Model
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, McMahanCnn
from autoflip_secure.scenarios.models.resnet import ResNet18, ResNet20
from autoflip_secure.scenarios.models.vision import EfficientNetB3, MobileNetV2
from autoflip_secure.training import SequentialTrainer

CASES: tuple[tuple[Model, tuple[int, ...], int], ...] = (
    (Cnn(), (1, 28, 28), 256),
    (McMahanCnn(), (1, 28, 28), 128),
    (Cnn6(), (3, 32, 32), 64),
    (ResNet20(), (3, 32, 32), 64),
    (ResNet20(norm="group"), (3, 32, 32), 64),
    (ResNet18(width=16), (3, 32, 32), 64),
    (MobileNetV2(), (3, 32, 32), 64),
    (EfficientNetB3(width=0.5, depth=0.5), (3, 24, 24), 64),
)


def seconds(module: nn.Module, shape: tuple[int, ...], samples: int) -> float:
    """One epoch in batches of 32, the better of three."""
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(samples, *shape, generator=source), torch.arange(samples) % 10
    layout = Layout.of(module)
    job = [ClientJob(layout.vector(module), torch.arange(samples), y, 0, (1, 0))]
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        SequentialTrainer().train(module, layout, x, job, TrainingSchedule(epochs=1, batch_size=32))
        best = min(best, time.process_time() - began)
    return best


def main() -> None:
    """A line for each network."""
    torch.set_num_threads(1)
    for model, shape, samples in CASES:
        module = model.build(torch.zeros(2, *shape), 10, 0).to(memory_format=torch.channels_last)
        first = seconds(copy.deepcopy(module).to(memory_format=torch.contiguous_format), shape, samples)
        last = seconds(module, shape, samples)
        print(f"{model!r:.60}: {first:.3f} s first, {last:.3f} s last, ratio {first / last:.2f}")


if __name__ == "__main__":
    main()
