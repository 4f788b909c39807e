"""Local training of ten clients in a stack: masked models with half the units of every hidden layer gone, and the same
models compacted. A mask alone saves no time. Processor time of one thread, the best of turns that both take.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import training_styles as styles

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn, Mlp, Model
from autoflip_secure.training import StackedTrainer

SHAPE = (1, 8, 8)
SCHEDULE = TrainingSchedule(lr=0.05, batch_size=16, epochs=2)
MODELS: dict[str, Model] = {
    "MLP 64-64": Mlp(hidden=(64, 64)),
    "MLP 512-512": Mlp(hidden=(512, 512)),
    "CNN 16-32": Cnn(width=16),
}


@pytest.mark.parametrize(("name", "goal"), [("MLP 64-64", ""), ("MLP 512-512", ">= 1.4"), ("CNN 16-32", ">= 1.4")])
def test_compacted_local_training(
    name: str, goal: str, ratios: Callable[..., None], benchmark: BenchmarkFixture
) -> None:
    module = MODELS[name].build(torch.zeros(2, *SHAPE), 10, seed=0)
    layout, chain = Layout.of(module), Chain.of(module, torch.zeros(1, *SHAPE))
    kept = [torch.arange(layer.units) % 2 == 0 for layer in chain.layers]
    kept[-1][:] = True
    mask = chain.keep_units(kept, layout)
    vector = layout.vector(module) * mask
    smaller = compact(module, chain, layout, vector, mask)
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, *SHAPE, generator=source), torch.randint(0, 10, (400,), generator=source)

    def training(model: nn.Module, start: Tensor, live: Tensor | None) -> Callable[[], Tensor]:
        own, jobs = Layout.of(model), []
        for client in range(10):
            rows = torch.arange(15 * client, 15 * client + 80)
            jobs.append(ClientJob(start, rows, y[rows], 0, (1, client), live))
        return lambda: StackedTrainer().train(model, own, x, jobs, SCHEDULE).losses

    dense, small = training(module, vector, mask), training(smaller, Layout.of(smaller).vector(smaller), None)
    masked, compacted = styles.seconds(dense, small, rounds=5)
    ratios(f"{name}, 10 clients stacked: masked / compacted", masked / compacted, goal, "half the units")
    benchmark.pedantic(small, rounds=5)
    assert torch.allclose(dense(), small(), atol=1e-4)
