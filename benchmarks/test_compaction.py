"""What removing dead units saves: one training step of the compacted model against the masked dense one.

First half the units of every hidden layer are gone; then those that algorithms have removed at the end of a short run
on digits. A mask alone saves no time: the dense model multiplies zeros. Both models take turns in one run on one core,
and the figure is the ratio of their median times.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.models.chains import Cnn, Mlp, Model
from autoflip_secure.scenarios.running.build import CellBuilder

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
    """Median processor seconds per step of each, measured in short stretches that alternate."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(TURNS):
        for step, record in zip(steps, times, strict=True):
            began = time.process_time()
            for _ in range(STEPS):
                step()
            record.append((time.process_time() - began) / STEPS)
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


SCENARIO = """
data: digits
clients: 20
cohort: 5
rounds: 20
evaluate_every: 20
training: {epochs: 2, batch_size: 16, lr: 0.1}
seeds: [3]
"""
TRAINED = {"MLP 64-128-64": "{kind: mlp, hidden: [64, 128, 64]}", "MLP 512-512": "{kind: mlp, hidden: [512, 512]}",
           "CNN 16-32": "{kind: cnn, width: 16}"}  # fmt: skip
ALGORITHMS = ("autoflip", "autoflip_plus", "eflprune", "taylor")  # whose masks leave no unit that outputs a constant


class Last(Watcher):
    """Keeps the last state."""

    state: ServerState

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        """The newest one."""
        self.state = state


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", TRAINED)
def test_compacted_after_training(name: str, algorithm: str, benchmark: Any, ratios: Callable[..., None]) -> None:
    torch.set_num_threads(1)
    loaded = resolve(Document.parse(SCENARIO, "s.yaml"), (f"algorithm={algorithm}", f"model={TRAINED[name]}"))
    builder, last = CellBuilder(), Last()
    trainer = builder.trainer(loaded.cells[0])
    cell = builder.cell(loaded.cells[0], loaded.cells[0], trainer.device)
    [record] = run_cells([cell], trainer, watch=last)
    problem = cell.problem
    assert problem.units is not None
    smaller = compact(problem.module, problem.units, problem.layout, last.state.model, last.state.mask)
    problem.layout.load(problem.module, last.state.model)
    x, y = problem.x_train[:BATCH], problem.y_train[:BATCH]
    steps = training_step(problem.module, x, y), training_step(smaller, x, y)
    masked, compacted = in_turns(list(steps))
    final = record.rounds[-1].flops
    assert final.compacted is not None
    assert final.dense is not None
    density, fewer = record.rounds[-1].density, final.dense / final.compacted
    note = f"density {density:.2f}; operations {fewer:.2f}x"
    ratios(f"{name}, {algorithm}: masked / compacted step", masked / compacted, "", note)
    benchmark.pedantic(steps[1], rounds=TURNS, iterations=STEPS)
    assert torch.allclose(smaller(x), problem.module(x), atol=1e-4)
