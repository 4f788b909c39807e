"""A network some of whose parameters are frozen, and runs of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.cell import Cell, Problem, Protocol
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.none import NoPruning
from autoflip_secure.records.run import RunRecord
from autoflip_secure.training import Trainer, choose_trainer

X, Y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
X, Y = X.float().view(-1, 1, 8, 8) / 16, Y.long()
CLIENTS = 6


def network(frozen: Sequence[str] = (), *, norm: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        middle = (nn.BatchNorm1d(12),) if norm else ()
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), *middle, nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 10)
        )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return module


NAMES = [name for name, _ in network().named_parameters()]


def problem(module: nn.Module, *, chain: bool = False) -> Problem:
    layout, parts = Layout.of(module), np.array_split(np.random.default_rng(0).permutation(120), CLIENTS)
    return Problem(
        module=module,
        layout=layout,
        units=Chain.of(module, X[:1]) if chain else None,
        units_reason="ok" if chain else "not asked",
        x_train=X[:120],
        y_train=Y[:120],
        x_test=X[200:300],
        y_test=Y[200:300],
        num_classes=10,
        clients=tuple(torch.from_numpy(p) for p in parts),
        initial=layout.vector(module),
    )


def cells(of: Problem, *protocols: dict[str, Any]) -> list[Cell]:
    usual: dict[str, Any] = {"rounds": 3, "cohort": 3, "pruner": NoPruning(), "aggregator": Mean()}
    usual |= {"training": TrainingSchedule(epochs=1, lr=0.3), "exploration": ExplorationConfig(epochs=1)}
    names = [str(number) for number in range(len(protocols))]
    return [
        Cell(name, {"name": name}, {}, name, 0, of, Protocol(**(usual | own)))
        for name, own in zip(names, protocols, strict=True)
    ]


class Memory(Watcher):
    """The last state of each cell, and what was sent."""

    def __init__(self) -> None:
        self.states: dict[str, ServerState] = {}
        self.rows: dict[str, list[Tensor]] = {}

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.states[cell.key] = after
        self.rows.setdefault(cell.key, []).append(sent)


def trainer_for(of: Problem) -> Trainer:
    return choose_trainer(of.module, of.layout, X[:1])


def numbers(record: RunRecord) -> dict[str, Any]:
    """What does not depend on whether frozen tensors have coordinates; downlinks are counted by hand elsewhere."""
    found = record.numbers()
    for part in (*found["rounds"], found["costs"], *([found["exploration"]] if found["exploration"] else [])):
        part["bytes"] = {key: value for key, value in part["bytes"].items() if key.startswith("uplink")}
    return {key: value for key, value in found.items() if key not in ("trainer", "events", "digests", "layers")}
