"""Cells on real digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.cell import Cell, Problem, Protocol
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.budget import BudgetMask
from autoflip_secure.pruning.none import NoPruning
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.records.run import RunRecord
from autoflip_secure.training import choose_trainer

X, Y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
X, Y = X.float().view(-1, 1, 8, 8) / 16, Y.long()
TRAIN, TEST = slice(0, 400), slice(400, 700)
CLIENTS = 10


def problem(seed: int = 0) -> Problem:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden = (nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        module = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 10))
    layout = Layout.of(module)
    parts = np.array_split(np.random.default_rng(seed).permutation(400), CLIENTS)
    return Problem(
        module=module,
        layout=layout,
        units=Chain.of(module, X[:1]),
        units_reason="ok",
        x_train=X[TRAIN],
        y_train=Y[TRAIN],
        x_test=X[TEST],
        y_test=Y[TEST],
        num_classes=10,
        clients=tuple(torch.from_numpy(p) for p in parts),
        initial=layout.vector(module),
    )


PROBLEM = problem()


def cell(name: str = "x", seed: int = 0, **protocol: Any) -> Cell:
    settings: dict[str, Any] = {"rounds": 6, "cohort": 4, "pruner": NoPruning(), "aggregator": Mean()}
    settings |= {"training": TrainingSchedule(epochs=2, lr=0.5), "exploration": ExplorationConfig(epochs=2)} | protocol
    return Cell(name, {"name": name}, {}, name, seed, PROBLEM, Protocol(**settings))


def run(*cells: Cell, kind: str = "auto") -> list[RunRecord]:
    return run_cells(cells, choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1], kind=kind))


AUTOFLIP = {"pruner": ThresholdMask(refine_every=2), "aggregator": AgreementWeighted()}
PLUS = {"pruner": BudgetMask(), "aggregator": RadialAgreement()}
