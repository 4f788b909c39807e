"""What the suites work on: rounds of a given size, a finished sweep. Made once, with fixed seeds."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.algorithm.guidance import initial_guidance
from autoflip_secure.interfaces import Exploration, PruneView, RoundView
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.models.chains import Cnn, Mlp, Model
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.seeds import Purpose, generator

SHAPE = (1, 8, 8)
MODELS: dict[str, Model] = {
    "100k": Mlp(hidden=(282, 282)),  # 101k parameters
    "1M": Mlp(hidden=(960, 960)),  # 995k
    "cnn": Cnn(width=16),  # 38k
}
EXPLORERS = 20
SWEEP: dict[str, Any] = {
    "name": "benchmark",
    "question": "How long does a report take?",
    "rounds": 20,
    "cohort": 5,
    "training": {"epochs": 1},
    "exploration": {"epochs": 1},
    "seeds": [1, 2, 3],
    "sweep": {
        "product": {
            "attack": [
                "none",
                {"kind": "gaussian_noise", "sigma": 0.1, "scope": 0.2},
                {"kind": "gaussian_noise", "sigma": 0.5, "scope": 0.2},
                {"kind": "label_flip", "share": 1.0, "scope": 0.2},
            ],
            "algorithm": ["fedavg", "autoflip"],
        }
    },
}


class Shaped:
    """A model's layout and units, and an exploration of it by :data:`EXPLORERS` clients, in random numbers."""

    def __init__(self, name: str) -> None:
        module = MODELS[name].build(torch.zeros(2, *SHAPE), 10, seed=0)
        source = torch.Generator().manual_seed(1)
        self.module = module
        self.layout = Layout.of(module)
        self.chain = Chain.of(module, torch.zeros(1, *SHAPE))
        self.weights = self.layout.vector(module)
        scale = torch.rand(self.layout.size, generator=source) ** 3  # few weights move much, as in training
        self.deviations = torch.randn(EXPLORERS, self.layout.size, generator=source) * scale * 0.01
        self.exploration = self.explore()

    def explore(self) -> Exploration:
        """The landscape of the fixed deviations."""
        return explore(torch.arange(EXPLORERS), torch.full((EXPLORERS,), 50.0), self.deviations, "robust", [])

    def prune_view(self) -> PruneView:
        """What a pruner sees before training."""
        return PruneView(
            layout=self.layout,
            units=self.chain,
            weights=self.weights,
            mask=torch.ones(self.layout.size, dtype=torch.bool),
            exploration=self.exploration,
            guidance=initial_guidance(self.exploration),
            round=0,
            rounds=20,
            generator=lambda *address: generator(0, Purpose.PRUNING, *address),
        )

    def round_view(self, clients: int) -> RoundView:
        """What the server sees in a round of ``clients``."""
        source = torch.Generator().manual_seed(clients)
        common = torch.randn(self.layout.size, generator=source)
        updates = torch.randn(clients, self.layout.size, generator=source).mul_(0.01).add_(common, alpha=0.01)
        return RoundView(
            round=1,
            clients=torch.arange(clients),
            samples=torch.randint(20, 100, (clients,), generator=source).float(),
            updates=updates,
            weights=self.weights,
            mask=torch.ones(self.layout.size, dtype=torch.bool),
            guidance=initial_guidance(self.exploration),
            layout=self.layout,
            shrinkage=torch.zeros(clients),
            generator=partial(generator, clients, Purpose.AGGREGATION, 1),
        )


@cache
def shaped(name: str) -> Shaped:
    """One of :data:`MODELS`, ready."""
    return Shaped(name)


@cache
def finished_sweep() -> list[RunRecord]:
    """The 24 records of :data:`SWEEP`, on the embedded digits."""
    work = plan(resolve(Document("benchmark", dict(SWEEP))))
    return [record for block in work.blocks for record in run_block(block)]
