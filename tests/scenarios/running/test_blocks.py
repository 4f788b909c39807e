"""A plan never makes a block that the engine refuses, and never two of cells that could be one."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized

from autoflip_secure.errors import InputError
from autoflip_secure.federation.block import refuse_mixed
from autoflip_secure.federation.cell import Cell
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import CellSpec, resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder

SMALL: dict[str, Any] = {
    "data": {"kind": "digits", "train_samples": 120, "test_samples": 40}, "model": {"kind": "mlp", "hidden": [4]},
    "clients": 6, "cohort": 3, "rounds": 3, "algorithm": "autoflip", "training": {"batch_size": 2},
}  # fmt: skip
AXES: dict[str, list[Any]] = {
    "rounds": [2, 3],
    "evaluate_every": [1, 2],
    "training.lr": [0.1, 0.2],
    "training.optimizer": ["sgd", "adam"],
    "training.momentum": [0.0, 0.9],
    "training.weight_decay": [0.0, 0.1],
    "training.batch_size": [1, 2],
    "training.epochs": [1, 2],
    "exploration.epochs": [1, 2],
    "exploration.patience": [None, 1],
    "exploration.lr": [None, 0.1, 0.3],
    "exploration.explorers": [None, 4],
    "exploration.method": ["robust", "linear"],
    "guidance.beta": [0.0, 0.1],
    "partition": ["iid", "dirichlet"],
    "attack": ["none", "label_flip", "gaussian_noise"],
    "algorithm": ["fedavg", "autoflip", "autoflip_plus", "median"],
    "privacy": [
        "none",
        {"kind": "sample_level", "noise_multiplier": 1.0},
        {"kind": "sample_level", "noise_multiplier": 1.0, "replace_unsupported_layers": True},
        {"kind": "client_level", "noise": "distributed", "noise_multiplier": 1.0, "allow_unproven": True},
    ],
    "sampling": ["fixed", "poisson"],
    "clients": [5, 6],
    "cohort": [2, 3],
    "server_lr": [0.5, 1.0],
    "server_momentum": [0.0, 0.9],
    "trainer": ["stacked", "sequential"],
    "model.hidden": [[4], [3]],
    "data.train_samples": [120, 100],
}
BUILDER = CellBuilder()


def made(spec: CellSpec, template: CellSpec) -> Cell:
    return BUILDER.cell(spec, template, torch.device("cpu"))


def problem_of(spec: CellSpec) -> list[Any]:
    """What makes the problem, and who trains it."""
    config = spec.config
    private = config["privacy"].get("replace_unsupported_layers", False)
    return [config["data"], config["model"], config["trainer"], private]


@settings(max_examples=sized(5, 150), deadline=None)
@given(st.data())
def test_every_grid_becomes_blocks_that_the_engine_takes(data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=4, unique=True))
    axes = [axis for axis in axes if not any(axis.startswith(f"{other}.") for other in axes)]
    sweep = {"product": {axis: AXES[axis] for axis in axes}}
    document = {**SMALL, "seeds": [1, 2], "sweep": sweep}
    try:
        scenario = resolve(Document("here", document))
    except InputError:  # some values do not go together
        return
    work = plan(scenario, data.draw(st.integers(1, 5)))
    for block in work.blocks:
        cells = [made(spec, block.cells[0]) for spec in block.cells]
        refuse_mixed(cells)
        for spec, cell in zip(block.cells, cells, strict=True):
            assert torch.equal(cell.problem.x_train, BUILDER.dataset(spec.settings).x_train)
    groups = plan(scenario, len(scenario.cells)).blocks
    for one, other in combinations(groups, 2):
        first, second = one.cells[0], other.cells[0]
        alike = problem_of(first) == problem_of(second)
        with pytest.raises(InputError if alike else AssertionError, match="run these apart" if alike else "problem"):
            refuse_mixed([made(first, first), made(second, first)])
