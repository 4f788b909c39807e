"""bfloat16 against float32 in the sequential trainer: seconds of processor time for one client's update.

python benchmarks/precision.py
"""

from __future__ import annotations

import time

import torch

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.interfaces.schedule import Precision
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.base import Model
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, McMahanCnn, Mlp
from autoflip_secure.scenarios.models.resnet import ResNet18, ResNet20
from autoflip_secure.scenarios.models.vision import EfficientNetB3, MobileNetV2
from autoflip_secure.training import SequentialTrainer

CASES: tuple[tuple[str, Model, tuple[int, ...], int], ...] = (
    ("mlp", Mlp(), (1, 8, 8), 16),
    ("cnn", Cnn(), (1, 28, 28), 32),
    ("mcmahan_cnn", McMahanCnn(), (1, 28, 28), 32),
    ("mcmahan_cnn, channels last", McMahanCnn(channels_last=True), (1, 28, 28), 32),
    ("cnn6, channels last", Cnn6(channels_last=True), (3, 32, 32), 32),
    ("cnn6, channels last", Cnn6(channels_last=True), (1, 28, 28), 350),
    ("resnet20, groups", ResNet20(norm="group"), (3, 32, 32), 32),
    ("resnet20, groups", ResNet20(norm="group"), (3, 32, 32), 128),
    ("resnet18", ResNet18(), (3, 32, 32), 64),
    ("mobilenet_v2", MobileNetV2(), (3, 32, 32), 32),
    ("efficientnet_b3, half", EfficientNetB3(width=0.5, depth=0.5), (3, 24, 24), 32),
)


def seconds(model: Model, shape: tuple[int, ...], batch: int, precision: Precision) -> float:
    """One epoch of two batches, the best of three."""
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(2 * batch, *shape, generator=source), torch.arange(2 * batch) % 10
    module = model.build(x[:2], 10, 0)
    layout = Layout.of(module)
    job = [ClientJob(layout.vector(module), torch.arange(2 * batch), y, 0, (1, 0))]
    schedule = TrainingSchedule(epochs=1, batch_size=batch, precision=precision)
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        SequentialTrainer().train(module, layout, x, job, schedule)
        best = min(best, time.process_time() - began)
    return best


def main() -> None:
    """A line for each network."""
    torch.set_num_threads(1)
    for name, model, shape, batch in CASES:
        full, half = (seconds(model, shape, batch, precision) for precision in ("float32", "bfloat16"))
        print(f"{name}, batches of {batch}: {full:.3f} s float32, {half:.3f} s bfloat16, ratio {full / half:.2f}")


if __name__ == "__main__":
    main()
