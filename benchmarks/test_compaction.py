"""What removing dead units saves: one training step of the compacted model against the masked dense one.

Half the units of every hidden layer are gone. A mask alone saves no time: the dense model multiplies zeros. Both models
take turns in one run on one core, and the figure is the ratio of their median times.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.models.chain import Chain
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn, Mlp, Model

BATCH, STEPS, TURNS = 16, 20, 15

MODELS: dict[str, Model] = {
    "MLP 64-64": Mlp(hidden=(64, 64)),
    "MLP 512-512": Mlp(hidden=(512, 512)),
    "CNN 16-32": Cnn(width=16),
}


def training_step(module: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    def step() -> None:
        module.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()

    return step


def in_turns(steps: list[Callable[[], None]]) -> list[float]:
    """Median seconds per step of each, measured in short stretches that alternate."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(TURNS):
        for step, record in zip(steps, times, strict=True):
            began = time.perf_counter()
            for _ in range(STEPS):
                step()
            record.append((time.perf_counter() - began) / STEPS)
    return [median(record) for record in times]


@pytest.mark.parametrize("name", MODELS)
def test_compacted_training_step(name: str, benchmark: Any, ratios: Callable[..., None]) -> None:
    torch.set_num_threads(1)
    shape = (1, 8, 8)
    module = MODELS[name].build(torch.zeros(2, *shape), 10, seed=0)
    layout, chain = Layout.of(module), Chain.of(module, torch.zeros(1, *shape))
    kept = [torch.arange(layer.units) % 2 == 0 for layer in chain.layers]
    kept[-1][:] = True
    mask = chain.keep_units(kept, layout)
    vector = layout.vector(module) * mask
    smaller = compact(module, chain, layout, vector, mask)
    layout.load(module, vector)

    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(BATCH, *shape, generator=g), torch.randint(0, 10, (BATCH,), generator=g)
    masked_step, compacted_step = training_step(module, x, y), training_step(smaller, x, y)
    masked, compacted = in_turns([masked_step, compacted_step])
    counts = [int(k.sum()) for k in kept]
    macs = chain.scaled_macs([layer.units for layer in chain.layers]) / chain.scaled_macs(counts)
    ratios(f"{name}: masked / compacted step", masked / compacted, "", f"half the units; multiply-adds {macs:.2f}x")
    benchmark.pedantic(compacted_step, rounds=TURNS, iterations=STEPS)
    assert torch.allclose(smaller(x), module(x), atol=1e-5)
